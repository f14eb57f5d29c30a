package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func decidedEvent() *Event {
	return &Event{
		Time: time.Date(2026, 11, 21, 8, 40, 0, 123456000, time.UTC), Kind: KindDecision, DecisionID: "01a1fdf4-c192-7cf7-900b-49ceb24f5238",
		Writer: "w", WriterSequence: 7, WorkspaceUUID: "922e118c-f34f-4226-a897-0e0afbec553d", Workspace: "acme",
		RepositoryUUID: "5b1b2c5e-7c5a-4f0f-9a9f-0d3a4d4c1b11", Repository: "acme/payments", Deployment: "production", Branch: `a","input":{"b`,
		Action: "connect", Host: "api.partner.example", Port: 443, Verdict: "allow", Mode: "report", WouldDeny: true, Reason: "no_rule_matched",
		Rule: "observed", Rules: []string{"observed", "x"}, Message: `say ,"input":{ "x"`, Revision: "sha256:00", Commit: "c0ffee",
		Attributes: []Attribute{{"a", `,"input":{`}}, Input: []byte(`{"principal":{"branch":"x"},"time":"2026-11-21T08:40:00Z"}`),
	}
}

// TestReadDecided: the fields of a record are read, however much its strings look like
// the end of it.
func TestReadDecided(t *testing.T) {
	e := decidedEvent()
	e.Normalise()
	d, ok, err := ReadDecided(e.AppendRecord(nil))
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	if d.ID != e.DecisionID || !d.Time.Equal(e.Time) || d.Verdict != "allow" || !d.WouldDeny || d.Mode != "report" || d.Rule != "observed" || !slices.Equal(d.Rules, e.Rules) ||
		d.Repository != e.Repository || d.Branch != e.Branch || d.Host != e.Host || d.Port != 443 || d.Revision != e.Revision || d.Commit != e.Commit || !bytes.Equal(d.Input, e.Input) {
		t.Errorf("%+v", d)
	}
	e.Input = nil
	if d, ok, err := ReadDecided(e.AppendRecord(nil)); err != nil || !ok || d.Input != nil {
		t.Errorf("without an input: %+v, %v, %v", d, ok, err)
	}
	e.Kind = KindTunnelClosed
	if _, ok, err := ReadDecided(e.AppendRecord(nil)); ok || err != nil {
		t.Errorf("an end is a decision: %v", err)
	}
	// A later version in another order is read as JSON.
	d, ok, err = ReadDecided([]byte(`{"input":{"a":1},"version":2,"kind":"decision","time":"2026-11-21T08:40:00Z","verdict":"deny"}`))
	if err != nil || !ok || d.Verdict != "deny" || string(d.Input) != `{"a":1}` {
		t.Errorf("%+v, %v, %v", d, ok, err)
	}
}

// FuzzReadDecided: a record that is read as a decision is JSON, and its input is
// the JSON's.
func FuzzReadDecided(f *testing.F) {
	e := decidedEvent()
	e.Normalise()
	f.Add(e.AppendRecord(nil))
	f.Add([]byte(`{"version":1,"time":"2026-11-21T08:40:00.123456Z","kind":"decision","input":{"a":1}}`))
	f.Fuzz(func(t *testing.T, record []byte) {
		d, ok, err := ReadDecided(record)
		if err != nil || !ok || !json.Valid(record) {
			return
		}
		var recordFields struct {
			Kind  Kind            `json:"kind"`
			Input json.RawMessage `json:"input"`
		}
		if err := json.Unmarshal(record, &recordFields); err != nil {
			t.Fatal(err)
		}
		// A name twice is in no record of ours, and two readers may differ about it.
		once := bytes.Count(record, []byte(`"input"`)) <= 1
		if once && recordFields.Kind == KindDecision && compact(recordFields.Input) != compact(d.Input) {
			t.Errorf("%q: input %q, want %q", record, d.Input, recordFields.Input)
		}
	})
}

// TestEachRecord: sealed or not, as they were written or in base64.
func TestEachRecord(t *testing.T) {
	e := decidedEvent()
	e.Normalise()
	record := e.AppendRecord(nil)
	odd := []byte("{\"a\":\n1}")
	var out bytes.Buffer
	x := NewExporter(&out)
	x.Sealed(&Entry{Index: 0, Record: record})
	x.Sealed(&Entry{Index: 1, Writer: "w", Sequence: 2, Hash: Hash{1}})
	x.Sealed(&Entry{Index: 2, Writer: "w", Sequence: 3, Record: odd, Copies: 1})
	x.Checkpoint(Statement{Note: []byte("note")})
	x.Unsealed(&Entry{Index: -1, Record: record})
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	var got []string
	if err := EachRecord(bytes.NewReader(out.Bytes()), func(r []byte) error { got = append(got, string(r)); return nil }); err != nil {
		t.Fatal(err)
	}
	if want := []string{string(record), string(odd), string(record)}; !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	nothing := func([]byte) error { return nil }
	for text, want := range map[string]string{
		"package x\n":                             "sallyport audit export",
		exportHead + "\n" + `{"leaf":`:            "line 2",
		out.String()[:out.Len()-40]:               "",
		exportHead + "\n" + `{"record":{}}`:       "it was cut off",
		strings.Replace(out.String(), "}", "", 1): "sallyport audit export",
	} {
		if err := EachRecord(strings.NewReader(text), nothing); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, want %s", text, err, want)
		}
	}
	stop := errors.New("stop")
	if err := EachRecord(bytes.NewReader(out.Bytes()), func([]byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
}

func BenchmarkReadDecided(b *testing.B) {
	e := decidedEvent()
	e.Normalise()
	record := e.AppendRecord(nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, ok, err := ReadDecided(record); !ok || err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzEachRecord: any file is read or refused, and what is given as a record stands
// in a line of it.
func FuzzEachRecord(f *testing.F) {
	f.Add([]byte(exportHead + "\n" + `{"leaf":0,"record":{"a":1}}` + "\n" + `{"record":{}}` + "\n" + `{"record_base64":"e30="}` + "\n" + `{"end":{}}` + "\n"))
	f.Fuzz(func(t *testing.T, export []byte) {
		// What is in base64 stands there in another form, however the name is spelled.
		plain := !bytes.ContainsFunc(export, func(r rune) bool { return r == '\\' || r >= 0x80 }) && !bytes.Contains(bytes.ToLower(export), []byte("base64"))
		_ = EachRecord(bytes.NewReader(export), func(record []byte) error {
			if plain && !bytes.Contains(export, record) {
				t.Errorf("%q is not in %q", record, export)
			}
			return nil
		})
	})
}

// TestReadClosed reads which decision an end belongs to, and nothing of other kinds.
func TestReadClosed(t *testing.T) {
	end := &Event{Time: time.Unix(1, 0), Kind: KindTunnelClosed, DecisionID: "01a1fdf4-c192-7cf7-900b-000000000001", CloseReason: "hello_encrypted"}
	end.Normalise()
	if id, reason, ok := ReadClosed(end.AppendRecord(nil)); !ok || id != end.DecisionID || reason != "hello_encrypted" {
		t.Errorf("%q, %q, %v", id, reason, ok)
	}
	decision := &Event{Time: time.Unix(1, 0), Kind: KindDecision, Verdict: "deny", DecisionID: end.DecisionID, CloseReason: "hello_encrypted"}
	decision.Normalise()
	for _, record := range [][]byte{decision.AppendRecord(nil), nil, []byte("{"), []byte(`{"kind":"tunnel_closed"`)} {
		if _, _, ok := ReadClosed(record); ok {
			t.Errorf("%q is read as an end", record)
		}
	}
}
