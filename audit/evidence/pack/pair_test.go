package pack

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/recorded"
)

// notaryKey signs nothing but tests.
const notaryKey = "PRIVATE+KEY+acme.example/egress+07cb9bbc+AdzjBsCZ3J6slJXxUuswhPXAQ6CUH1SdZO9O3bt1kOi1"

func decisionRecord() []byte {
	e := &audit.Event{
		Time: time.Date(2026, 10, 2, 0, 0, 0, 0, time.UTC), Kind: audit.KindDecision, DecisionID: "01a1fdf4-c192-7cf7-900b-000000000001", Repository: `acme/"payments"`,
		Host: "x.example", Port: 443, Verdict: "allow", Rules: []string{"a", "b"}, Input: []byte(`{"target":{"host":"x.example","port":443}}`),
	}
	e.Normalise()
	return e.AppendRecord(nil)
}

// TestScanPair: a line is read as encoding/json reads it and in one spelling, or left.
func TestScanPair(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	decision, end := decisionRecord(), []byte(`{"version":1,"time":"2026-10-02T01:00:00.000000Z","kind":"tunnel_closed","bytes_sent":7}`)
	for _, p := range []*Pair{{Leaf: 1, EndLeaf: -1, Record: decision}, {Leaf: 12, EndLeaf: 345, Record: decision, EndRecord: end}} {
		line := bytes.TrimSuffix(AppendPair(nil, p), []byte("\n"))
		if scanPair(line) == nil {
			t.Errorf("it is left to encoding/json: %s", line)
		}
		for range 5000 {
			changed := bytes.Clone(line)
			at := random.IntN(len(changed))
			switch random.IntN(3) {
			case 0:
				changed[at] = "\"\\{}[],:0 x"[random.IntN(11)]
			case 1:
				changed = append(changed[:at], changed[at+1:]...)
			case 2:
				changed = bytes.Join([][]byte{changed[:at], changed[at:]}, []byte{" ,}{\""[random.IntN(5)]})
			}
			p := scanPair(changed)
			if p == nil {
				continue
			}
			var l pairLine
			if err := json.Unmarshal(changed, &l); err != nil || !bytes.Equal(l.Record, p.Record) || !bytes.Equal(l.End, p.EndRecord) ||
				!bytes.Equal(AppendPair(nil, p), append(changed, '\n')) {
				t.Fatalf("%q: %v, %s and %s", changed, err, p.Record, p.EndRecord)
			}
		}
	}
}

// FuzzPair: a line is refused, or is written again as it was read: it has one meaning.
func FuzzPair(f *testing.F) {
	record := decisionRecord()
	f.Add(bytes.TrimSpace(AppendPair(nil, &Pair{Leaf: 1, EndLeaf: -1, Record: record})))
	f.Add(bytes.TrimSpace(AppendPair(nil, &Pair{Leaf: 1, EndLeaf: 2, Record: record, EndRecord: []byte("\xff{}")})))
	f.Add([]byte(`{"leaf":1,"record":{"a":1},"record":{"a":2}}`))
	f.Add([]byte(`{"leaf":-1,"record":{}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		p, err := ReadPair(line)
		if err != nil {
			return
		}
		if again := AppendPair(nil, p); !bytes.Equal(again, append(bytes.Clone(line), '\n')) {
			t.Errorf("%q became %q", line, again)
		}
	})
}

// FuzzManifest: a manifest is refused, or names nothing but files of a pack, in
// order; and one that is not signed by the key is refused whatever its content is.
func FuzzManifest(f *testing.F) {
	text, err := os.ReadFile(filepath.Join("..", "testdata", "pack", ManifestName))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(unsignedHead + `{"format":1,"files":[{"path":"../x"}]}`))
	f.Add([]byte(unsignedHead + `{"format":1,"files":[{"path":"a"},{"path":"a"}]}`))
	signer, err := audit.ParseSigner(notaryKey)
	if err != nil {
		f.Fatal(err)
	}
	keys := []audit.Key{signer.Key()}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, by, err := OpenManifest(text, keys, true)
		if err != nil {
			return
		}
		if by == "" && !bytes.HasPrefix(text, []byte(unsignedHead)) {
			t.Error("it is unsigned")
		}
		if _, _, err := OpenManifest(text, keys, false); (err == nil) != (by != "") {
			t.Errorf("unsigned, and accepted: %v", err)
		}
		for i, file := range m.Files {
			if !filepath.IsLocal(file.Path) || i > 0 && m.Files[i-1].Path >= file.Path {
				t.Errorf("it lists %q", file.Path)
			}
		}
		ClaimedKey(text)
	})
}

// TestManifestTwice: a manifest with a member twice is rejected, whichever key signed it.
func TestManifestTwice(t *testing.T) {
	for text, want := range map[string]string{
		`{"format": 1, "format": 1}`:              "there twice",
		`{"Format": 1}`:                           "not known",
		`{"format": 1} {}`:                        "follows",
		`{"files": [{"path": "a", "path": "b"}]}`: "there twice",
	} {
		if _, err := readManifest([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// FuzzRecord: any bytes that stand in the log as a record are written to a line and
// read back, whatever they are.
func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"version":1}`), []byte("{}"))
	f.Add([]byte("\n"), []byte("\xff"))
	f.Add([]byte(`{"version":1,"time":"2026-10-02T00:00:00.000000Z","kind":"decision","input":{}}`), []byte(`{"a":"\u0000"}`))
	f.Fuzz(func(t *testing.T, record, end []byte) {
		line := AppendPair(nil, &Pair{Leaf: 3, EndLeaf: 4, Record: record, EndRecord: end})
		if bytes.Count(line, []byte("\n")) != 1 {
			t.Fatalf("%q is not one line", line)
		}
		p, err := ReadPair(bytes.TrimSuffix(line, []byte("\n")))
		if err != nil || !bytes.Equal(p.Record, record) || !bytes.Equal(p.EndRecord, end) || p.Leaf != 3 || p.EndLeaf != 4 {
			t.Errorf("%q: %v", line, err)
		}
		recorded.Peek(record)
	})
}
