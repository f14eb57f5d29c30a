package recorded

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
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
	want := new(Event)
	err := json.Unmarshal(record, want)
	if got != nil && (err != nil || !reflect.DeepEqual(got, want)) {
		t.Errorf("%q: %+v, and encoding/json has %+v, %v", record, got, want, err)
	}
	if IsJSON(record) != json.Valid(record) {
		t.Errorf("%q: whether it is JSON is answered in two ways", record)
	}
	return got != nil
}

// TestScanRecord: every record of a log is one that the scanner reads, and one with a
// byte changed is read as encoding/json reads it or not at all.
func TestScanRecord(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, record := range records() {
		head := record
		if at := bytes.Index(head, []byte(inputField)); at > 0 {
			head = append(bytes.Clone(head[:at]), '}')
		}
		if !scansAlike(t, head) {
			t.Errorf("it is left to encoding/json: %s", head)
		}
		for range 40 {
			changed := bytes.Clone(record)
			changed[random.IntN(len(changed))] = `"\{}[],:0 x`[random.IntN(11)]
			scansAlike(t, changed)
		}
	}
}

// records are a decision, its end, and an event with attributes, as the log has them.
func records() [][]byte {
	at := time.Date(2026, 10, 2, 9, 0, 0, 0, time.UTC)
	list := []*audit.Event{
		{
			Time: at, Kind: audit.KindDecision, DecisionID: "01a1fdf4-c192-7cf7-900b-000000000001", WorkspaceUUID: "922e118c-f34f-4226-a897-0e0afbec553d",
			Workspace: "acme", Repository: "acme/payments", Deployment: "production-eu", DeploymentType: "production", Branch: `a"b\c`,
			Action: "connect", Scheme: "https", Host: "x.example", Port: 443, Verdict: "allow", WouldDeny: true, Mode: "report", Reason: "policy_denied",
			Rule: "a", Rules: []string{"a", "b"}, Exceptions: []string{"data.exceptions[0]"}, Status: 200,
			Input: []byte(`{"action":"connect","target":{"host":"x.example","port":443}}`),
		},
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
