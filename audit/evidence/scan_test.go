package evidence

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"testing"
)

// FuzzScanRecord: what the scanner reads, encoding/json reads the same; what it leaves
// is for encoding/json.
func FuzzScanRecord(f *testing.F) {
	for _, text := range []string{
		`{"version":1,"time":"2026-10-02T09:00:00.000000Z","kind":"decision","writer":"w","writer_sequence":7,"port":443,"would_deny":true,"rules":["a","b\\\"c"],"attributes":{"x":"y"}}`,
		`{"Time":"x"}`, `{"port":01}`, `{"port":-1}`, `{"port":1.5}`, `{"port":99999999999999999999}`, `{"host":"\u0041"}`, `{"host":"a","host":"b"}`,
		`{"host":"` + "\xff" + `"}`, `{"host":"` + "\x01" + `"}`, `{"rules":[]}`, `{"attributes":{}}`, `{"rules":null}`, `{}`, `{"host":"a"}x`, ` {"host":"a"}`, `{"host":"a",}`,
		`{"address":"é\\"}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, record []byte) { scansAlike(t, record) })
}

func scansAlike(t *testing.T, record []byte) (scanned bool) {
	t.Helper()
	got := scanRecord(record)
	want := new(recordFields)
	err := json.Unmarshal(record, want)
	if got != nil && (err != nil || !reflect.DeepEqual(got, want)) {
		t.Errorf("%q: %+v, and encoding/json says %+v, %v", record, got, want, err)
	}
	if isRecordJSON(record) != json.Valid(record) {
		t.Errorf("%q: whether it is JSON is answered in two ways", record)
	}
	return got != nil
}

// TestScanPair: a line is read as encoding/json reads it and in one spelling, or left.
func TestScanPair(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	lines := bytes.Split([]byte(unzip(t, tree(t, build(t, october(t), nil))[populationFile])), []byte{'\n'})
	for _, line := range lines[:len(lines)-1] {
		if scanPair(line) == nil {
			t.Errorf("it is left to encoding/json: %s", line)
		}
		for range 200 {
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
				!bytes.Equal(appendPair(nil, p), append(changed, '\n')) {
				t.Fatalf("%q: %v, %s and %s", changed, err, p.Record, p.EndRecord)
			}
		}
	}
}

// TestScanRecord: every record of a log is one that the scanner reads, and one with a
// byte changed is read as encoding/json reads it or not at all.
func TestScanRecord(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, e := range october(t).entries {
		head := e.Record
		if at := bytes.Index(head, []byte(inputField)); at > 0 {
			head = append(bytes.Clone(head[:at]), '}')
		}
		if !scansAlike(t, head) {
			t.Errorf("it is left to encoding/json: %s", head)
		}
		for range 40 {
			changed := bytes.Clone(e.Record)
			changed[random.IntN(len(changed))] = `"\{}[],:0 x`[random.IntN(11)]
			scansAlike(t, changed)
		}
	}
}
