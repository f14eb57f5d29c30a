package auditcmd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/audit"
)

// TestFollowFile: a line that a crash cut goes, a file that was moved away is made
// again, and one that was emptied is added to from its beginning.
func TestFollowFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.jsonl")
	long := strings.Repeat("x", 200<<10)
	for before, want := range map[string]string{"": "", "one\n": "one\n", "one\ntw": "one\n", "tw": "", long: "", "one\n" + long: "one\n"} {
		if err := os.WriteFile(path, []byte(before), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := openFollowFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.write([]byte("next\n")); err != nil {
			t.Fatal(err)
		}
		if err := f.close(); err != nil {
			t.Fatal(err)
		}
		if got := content(t, path); got != want+"next\n" {
			t.Errorf("after %.10q it has %.20q", before, got)
		}
	}
	f, err := openFollowFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := f.write([]byte("fresh\n")); err != nil {
		t.Fatal(err)
	}
	if got := content(t, path); got != "fresh\n" {
		t.Errorf("the new file has %q", got)
	}
	if got := content(t, path+".1"); strings.Contains(got, "fresh") {
		t.Errorf("the one that was moved away has %q", got)
	}
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	if err := f.write([]byte("again\n")); err != nil {
		t.Fatal(err)
	}
	if got := content(t, path); got != "again\n" {
		t.Errorf("the emptied file has %q", got)
	}
}

func content(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestFollowPlace: the place is read back as it was kept, by one process at a time,
// and what is not a place is refused.
func TestFollowPlace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "position")
	p, err := openFollowPlace(path)
	if err != nil || p.next != 0 {
		t.Fatalf("%+v: %v", p, err)
	}
	if _, err := openFollowPlace(path); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("two have it: %v", err)
	}
	p.next, p.hash = 7, audit.Hash{1, 2}
	if err := p.save(); err != nil {
		t.Fatal(err)
	}
	p.close()
	p, err = openFollowPlace(path)
	if err != nil || p.next != 7 || p.hash != (audit.Hash{1, 2}) {
		t.Fatalf("%+v: %v", p, err)
	}
	p.close()
	for _, text := range []string{"", "{", `{"next":-1}`, `{"next":7}x`, "null"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if p, err := openFollowPlace(path); err == nil {
			t.Errorf("%q is taken for %+v", text, p)
		}
	}
}

// FuzzFollowPlace: what is accepted as a position is one, and is kept as it was read.
func FuzzFollowPlace(f *testing.F) {
	f.Add(`{"next":7,"hash":"AQIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}`)
	f.Add(`{"next":1}`)
	f.Add(`{"next":9223372036854775807,"hash":""}`)
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "position")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := openFollowPlace(path)
		if err != nil {
			return
		}
		defer p.close()
		if p.next < 1 {
			t.Errorf("%q is leaf %d", text, p.next)
		}
		next, hash := p.next, p.hash
		if err := p.save(); err != nil {
			t.Fatal(err)
		}
		p.close()
		again, err := openFollowPlace(path)
		if err != nil || again.next != next || again.hash != hash {
			t.Fatalf("%q became %+v: %v", text, again, err)
		}
		again.close()
	})
}
