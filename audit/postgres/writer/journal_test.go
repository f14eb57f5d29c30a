package writer

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
)

// checkJournal reads a journal and frames what it found again: that must be what
// the file holds after its header.
func checkJournal(t *testing.T, b []byte) {
	t.Helper()
	var again []byte
	err := readBytes(b, func(g *group) error {
		for _, r := range g.rows {
			_ = g.record(r)
			again = appendFrame(again, g.tuple(r))
		}
		return nil
	})
	if err != nil && !errors.Is(err, errJournalDamaged) && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if len(again) > 0 && !bytes.Contains(b, again) {
		t.Fatal("what was read is not what is there")
	}
}

// readBytes reads a journal from memory.
func readBytes(b []byte, each func(*group) error) error {
	j, err := openJournal(bytes.NewReader(b))
	if err != nil {
		return err
	}
	return j.each(each)
}

// rowsOf is a group of n refusals of a writer, the first with this number.
func rowsOf(writer string, first, n int) *group {
	g := newGroup(writer)
	for i := range n {
		e := audittest.Decision("deny", i)
		e.Writer, e.WriterSequence = writer, int64(first+i)
		e.Normalise()
		g.add(e, nil)
	}
	return g
}

func TestJournal(t *testing.T) {
	t.Parallel()
	j := &journal{folder: t.TempDir(), writer: "w", maxBytes: 1 << 20, maxAge: time.Hour}
	now := time.Now()
	g := rowsOf("w", 1, 10)
	for _, part := range []*group{g.only(g.rows[:5]), g.only(g.rows[5:])} {
		if err := j.append(part, now); err != nil {
			t.Fatal(err)
		}
	}
	whole, err := os.ReadFile(j.path())
	if err != nil || int64(len(whole)) != j.size {
		t.Fatalf("%d bytes, size %d, %v", len(whole), j.size, err)
	}
	info, err := os.Stat(j.path())
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	read := func(b []byte) (tuples [][]byte, err error) {
		err = readBytes(b, func(g *group) error {
			for _, r := range g.rows {
				tuples = append(tuples, bytes.Clone(g.tuple(r)))
			}
			return nil
		})
		return tuples, err
	}
	all, err := read(whole)
	if err != nil || len(all) != 10 {
		t.Fatalf("%d of 10 events, %v", len(all), err)
	}
	for i, tuple := range all {
		if !bytes.Equal(tuple, g.tuple(g.rows[i])) {
			t.Errorf("event %d is another", i)
		}
	}
	// Cut anywhere, and changed anywhere: what comes out is a prefix, and an
	// error reports that unless the cut is between two events.
	for cut := 0; cut < len(whole); cut += 41 {
		got, err := read(whole[:cut])
		if err == nil && len(got) == 10 {
			t.Fatalf("cut at %d is whole", cut)
		}
		if !isPrefix(got, all) {
			t.Fatalf("cut at %d gives other events", cut)
		}
	}
	for at := 0; at < len(whole); at += 43 {
		changed := bytes.Clone(whole)
		changed[at] ^= 0x20
		got, err := read(changed)
		if !errors.Is(err, errJournalDamaged) || !isPrefix(got, all) {
			t.Fatalf("changed at %d: %d events, %v", at, len(got), err)
		}
	}

	if err := j.append(g, now.Add(2*time.Hour)); !errors.Is(err, errJournalFull) {
		t.Errorf("an old journal: %v", err)
	}
	j.maxBytes = j.size + 10
	if err := j.append(g, now); !errors.Is(err, errJournalFull) {
		t.Errorf("a large journal: %v", err)
	}
	if err := j.drop(); err != nil || !j.empty() {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(j.folder, "*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func isPrefix(got, all [][]byte) bool {
	if len(got) > len(all) {
		return false
	}
	for i := range got {
		if !bytes.Equal(got[i], all[i]) {
			return false
		}
	}
	return true
}
