package recorded

import (
	"bytes"
	"cmp"
	"encoding/json"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// FuzzScanRecord: the scanner returns the same event as encoding/json, or none.
func FuzzScanRecord(f *testing.F) {
	for _, text := range []string{
		`{"version":1,"time":"2026-10-02T09:00:00.000000Z","kind":"decision","writer":"w","writer_sequence":7,"port":443,"would_deny":true,"rules":["a","b\\\"c"],"attributes":{"x":"y"}}`,
		`{"Time":"x"}`, `{"port":01}`, `{"port":-1}`, `{"port":1.5}`, `{"port":99999999999999999999}`, `{"host":"\u0041"}`, `{"host":"a","host":"b"}`,
		`{"host":"` + "\xff" + `"}`, `{"host":"` + "\x01" + `"}`, `{"rules":[]}`, `{"attributes":{}}`, `{"rules":null}`, `{}`, `{"host":"a"}x`, ` {"host":"a"}`, `{"host":"a",}`,
		`{"address":"é\\"}`,
		`{"version":1,"time":"x","attributes":{"a":"b"},"attributes":{"c":"d"}}`, `{"version":1,"time":"x","time":"y"}`, `{"version":1,"time":"x","version":2}`,
		`{"version":1,"time":"x","input_parts":{"kind":"a"}}`, `{"version":1,"time":"x","input":{"a":1},"kind":"b"}`, `{"version":1,"time":"x","input":{]`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, record []byte) { scansAlike(t, record) })
}

func scansAlike(t *testing.T, record []byte) (scanned bool) {
	t.Helper()
	got := scanRecord(record)
	want := new(Event)
	err := json.Unmarshal(withoutInput(record), want)
	if got != nil && (err != nil || !reflect.DeepEqual(got, want)) {
		t.Errorf("%q: %+v, and encoding/json has %+v, %v", record, got, want, err)
	}
	if IsJSON(record) != json.Valid(record) {
		t.Errorf("%q: IsJSON and json.Valid differ", record)
	}
	return got != nil
}

// TestScanRecord: the scanner reads every record of a log, and a record with a changed byte
// as encoding/json does or not at all.
func TestScanRecord(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, record := range records() {
		if !scansAlike(t, record) {
			t.Errorf("left to encoding/json: %s", record)
		}
		for range 40 {
			changed := bytes.Clone(record)
			changed[random.IntN(len(changed))] = `"\{}[],:0 x`[random.IntN(11)]
			scansAlike(t, changed)
		}
	}
}

// records are decisions with their whole input and with its parts, the end of one, and an
// event with attributes, as the log has them.
func records() [][]byte {
	at := time.Date(2026, 10, 2, 9, 0, 0, 0, time.UTC)
	list := []*audit.Event{
		decision(at, `{"action":"connect","target":{"host":"x.example","port":443}}`),
		decision(at, repeatedInput),
		{Time: at, Kind: audit.KindTunnelClosed, DecisionID: "01a1fdf4-c192-7cf7-900b-000000000001", BytesSent: 1, BytesReceived: 2, Duration: time.Minute, CloseReason: "finished"},
		{Time: at, Kind: audit.KindAdmin, Action: "token_revoked", Message: "é", Attributes: []audit.Attribute{{Name: "operator", Value: "ada"}, {Name: "uid", Value: "1"}}},
	}
	var all [][]byte
	for i, e := range list {
		e.Writer, e.WriterSequence = "w", int64(i+1)
		e.Normalise()
		all = append(all, e.AppendRecord(nil))
	}
	return all
}

// repeatedInput is the input of [decision] in the form of package policy/rego. The record
// has only its parts.
const repeatedInput = `{"principal":{"kind":"pipeline_step","workspace":{"uuid":"922e118c-f34f-4226-a897-0e0afbec553d","slug":"acme"},` +
	`"repository":{"uuid":"","full_name":"acme/payments"},"pipeline":{"uuid":""},"step":{"uuid":""},"branch":"a\"b\\c"},` +
	`"action":"connect","target":{"host":"x.example","port":443},"client":{"address":""},"time":"2026-10-02T09:00:00Z"}`

func decision(at time.Time, input string) *audit.Event {
	return &audit.Event{
		Time: at, Kind: audit.KindDecision, DecisionID: "01a1fdf4-c192-7cf7-900b-000000000001", WorkspaceUUID: "922e118c-f34f-4226-a897-0e0afbec553d",
		Workspace: "acme", Repository: "acme/payments", Deployment: "production-eu", DeploymentType: "production", Branch: `a"b\c`,
		Action: "connect", Scheme: "https", Host: "x.example", Port: 443, Verdict: "allow", WouldDeny: true, Mode: "report", Reason: "policy_denied",
		Rule: "a", Rules: []string{"a", "b"}, Exceptions: []string{"data.exceptions[0]"}, Status: 200, Input: []byte(input),
	}
}

// TestRecordsHaveBothFormsOfInput: the tests of this package read records with the whole
// input and with its parts.
func TestRecordsHaveBothFormsOfInput(t *testing.T) {
	all := bytes.Join(records(), nil)
	for _, field := range []string{`,"input":{`, `,"input_parts":{`} {
		if !bytes.Contains(all, []byte(field)) {
			t.Errorf("no record has %s", field)
		}
	}
}

// TestEachFieldIsRead: the scanner reads every field of Event, each into its own.
func TestEachFieldIsRead(t *testing.T) {
	names := map[string]bool{}
	for _, f := range recordFields {
		if names[f.name] {
			t.Errorf("%s is listed twice", f.name)
		}
		names[f.name] = true
	}
	event := reflect.TypeFor[Event]()
	for i := range event.NumField() {
		name := event.Field(i).Tag.Get("json")
		value := map[reflect.Kind]string{reflect.String: `"x"`, reflect.Int: "7", reflect.Int64: "7", reflect.Bool: "true", reflect.Slice: `["x","y"]`, reflect.Map: `{"x":"y"}`}[event.Field(i).Type.Kind()]
		record := `{"version":1,"time":"","` + name + `":` + value + `}`
		if name == "time" {
			record = `{"version":1,"time":"x"}`
		}
		want := new(Event)
		if err := json.Unmarshal([]byte(record), want); err != nil {
			t.Fatal(err)
		}
		if got := scanRecord([]byte(record)); !reflect.DeepEqual(got, want) || reflect.ValueOf(*got).Field(i).IsZero() {
			t.Errorf("%s is read as %+v", record, got)
		}
	}
}

// TestWrittenFieldsAreRead: the scanner reads a record in which each field of an event has a
// value.
func TestWrittenFieldsAreRead(t *testing.T) {
	for _, kind := range []audit.Kind{audit.KindDecision, audit.KindTunnelClosed} {
		e := decision(time.Date(2026, 10, 2, 9, 0, 0, 0, time.UTC), repeatedInput)
		fields := reflect.ValueOf(e).Elem()
		for i := range fields.NumField() {
			switch f := fields.Field(i); f.Interface().(type) {
			case string:
				f.SetString(cmp.Or(f.String(), "x"))
			case int, int64, time.Duration:
				f.SetInt(7000)
			case uint16:
				f.SetUint(443)
			case netip.Addr:
				f.Set(reflect.ValueOf(netip.MustParseAddr("192.0.2.1")))
			case []netip.Addr:
				f.Set(reflect.ValueOf([]netip.Addr{netip.MustParseAddr("192.0.2.1")}))
			case []audit.Attribute:
				f.Set(reflect.ValueOf([]audit.Attribute{{Name: "a", Value: "b"}}))
			}
		}
		e.Kind = kind
		record := e.AppendRecord(nil)
		if scanRecord(record) == nil {
			t.Errorf("left to encoding/json: %s", record)
		}
		var all map[string]json.RawMessage
		if err := json.Unmarshal(record, &all); err != nil {
			t.Fatal(err)
		}
		for _, f := range recordFields {
			if _, ok := all[f.name]; !ok && f.name != "input_parts" && f.name != "input" {
				t.Errorf("the test sets no %s", f.name)
			}
		}
	}
}

// BenchmarkRead reads one record of each form.
func BenchmarkRead(b *testing.B) {
	for i, name := range []string{"decision, whole input", "decision, parts of the input", "close", "admin"} {
		record := records()[i]
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Read(record); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkIsJSON checks one record of each form.
func BenchmarkIsJSON(b *testing.B) {
	for i, name := range []string{"decision, whole input", "decision, parts of the input", "close", "admin"} {
		record := records()[i]
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !IsJSON(record) {
					b.Fatal("not JSON")
				}
			}
		})
	}
}
