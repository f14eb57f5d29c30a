package audit

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

const uuid = "0199c7f0-0000-7000-8000-00000000000a"

// The bytes of a record are a contract: they are what was hashed and signed.
func TestRecordIsStable(t *testing.T) {
	e := &Event{
		Time: time.Date(2026, 11, 21, 9, 40, 0, 123456789, time.FixedZone("", 3600)), Kind: KindDecision, DecisionID: uuid,
		Writer: "w", WriterSequence: 7, Workspace: "acme", Repository: `acme/"pay\ments"`,
		ClientAddress: netip.MustParseAddr("::ffff:10.0.0.1"), Action: "connect", Host: "api.partner.example", Port: 443,
		Verdict: "allow", Mode: "enforce", Reason: "policy_allowed", Rules: []string{"a", "b"}, Status: 200,
		DialedAddress: netip.MustParseAddr("fe80::1%eth0"), Attributes: []Attribute{{"a", "b\x00"}}, Input: []byte(`{"x":1}`),
	}
	e.Normalise()
	got := string(e.AppendRecord(nil))
	const want = `{"version":1,"time":"2026-11-21T08:40:00.123456Z","kind":"decision","decision_id":"0199c7f0-0000-7000-8000-00000000000a",` +
		`"writer":"w","writer_sequence":7,"workspace":"acme","repository":"acme/\"pay\\ments\"","client_address":"10.0.0.1",` +
		`"action":"connect","host":"api.partner.example","port":443,"verdict":"allow","mode":"enforce","would_deny":false,` +
		`"reason":"policy_allowed","rules":["a","b"],"status":200,"dialed_address":"fe80::1","attributes":{"a":"b\\x00"},"input":{"x":1}}`
	if got != want {
		t.Errorf("record\n got %s\nwant %s", got, want)
	}
	leaf := Leaf([]byte(got))
	const wantLeaf = "710dd6f0ae5ffa0aa252f07d6b5ad747d5aac9762361ea325696b2ed40c61e5e"
	if hex.EncodeToString(leaf[:]) != wantLeaf {
		t.Errorf("leaf %x", leaf)
	}
	closing := &Event{Time: e.Time, Kind: KindTunnelClosed, DecisionID: uuid, Writer: "w", WriterSequence: 8}
	closing.Normalise()
	if got := string(closing.AppendRecord(nil)); !strings.HasSuffix(got, `"bytes_sent":0,"bytes_received":0,"duration":0}`) {
		t.Errorf("a closing event's zeros are facts: %s", got)
	}
}

func TestNormaliseKeepsWhatDoesNotFit(t *testing.T) {
	e := &Event{DecisionID: "{" + uuid + "}", StepUUID: strings.ToUpper(uuid), Input: []byte(`{"a":"\u0000"}`), Status: 1 << 40, UpstreamStatus: -1,
		Addresses: []netip.Addr{{}, netip.MustParseAddr("192.0.2.1")}}
	e.Normalise()
	want := map[string]string{
		"time_invalid":        "-62135596800 seconds since 1970",
		"decision_id_invalid": "{" + uuid + "}",
		"step_uuid_invalid":   strings.ToUpper(uuid),
		"input_invalid":       `{"a":"\u0000"}`,
	}
	got := make(map[string]string)
	for _, a := range e.Attributes {
		got[a.Name] = a.Value
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
	if e.DecisionID != "" || e.StepUUID != "" || e.Input != nil || e.Kind != "unknown" || e.Time.Year() != 1970 || e.Status != 999 || e.UpstreamStatus != 0 || len(e.Addresses) != 1 {
		t.Errorf("%+v", e)
	}
}

// A list of a decision is shared with the policy that it came from.
func TestNormaliseChangesNoSharedList(t *testing.T) {
	rules, addresses := []string{"a\x00"}, []netip.Addr{netip.MustParseAddr("::ffff:192.0.2.1")}
	e := &Event{Rules: rules, Addresses: addresses}
	e.Normalise()
	if rules[0] != "a\x00" || !addresses[0].Is4In6() {
		t.Errorf("%q %v", rules, addresses)
	}
}

func TestIsInput(t *testing.T) {
	for in, want := range map[string]bool{
		`{"a":"b"}`:                                         true,
		`{"path":"/\\u0000\\ud800"}`:                        true, // a backslash, and then letters
		`{"a":"\ud83d\ude00"}`:                              true,
		`{"a":"` + strings.Repeat("[", 600):                 false,
		`{"a":"` + strings.Repeat("[", 600) + `"}`:          true,
		strings.Repeat("[", 512) + strings.Repeat("]", 512): true,
		strings.Repeat("[", 513) + strings.Repeat("]", 513): false,
		`{"a":"\u0000"}`:                                    false,
		`{"a":"\ud800"}`:                                    false,
		`{"a":"\ud800\ud800"}`:                              false,
		`{"a":"\udc00"}`:                                    false,
		"{\"a\":\"\xff\"}":                                  false,
		`{"a":1} x`:                                         false,
		`"` + strings.Repeat("a", capInput) + `"`:           false,
	} {
		if got := isInput([]byte(in)); got != want {
			t.Errorf("%.40q: %v", in, got)
		}
	}
}

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"api.partner.example":    "api.partner.example",
		"grüße":                  "grüße",
		"a\x00b\xffc\n":          `a\x00b\xffc\x0a`,
		"\u202egpj.exe":          `\u{202e}gpj.exe`,
		"0123456789012345678901": "01234567890123456…",
	} {
		if got := Text(in, 20); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func FuzzText(f *testing.F) {
	f.Add("a\x00\xff\u202e", 10)
	f.Add(strings.Repeat("ü", 300), 512)
	f.Fuzz(func(t *testing.T, s string, limit int) {
		limit = 3 + (limit&0xfff+0x1000)%0x1000
		out := Text(s, limit)
		if len(out) > limit || !utf8.ValidString(out) || !isPlain(out) {
			t.Fatalf("%q", out)
		}
		if again := Text(out, limit); again != out {
			t.Fatalf("%q became %q", out, again)
		}
	})
}

// FuzzRecord: whatever an event holds, its record is one JSON object with the same
// values, normalising again changes nothing, and another event has another record.
func FuzzRecord(f *testing.F) {
	f.Add("api.partner.example", []byte(`{"a":[1]}`), int64(1))
	f.Add("\x00\"\\\xff\u2028", []byte(`{"a":"\ud800"}`), int64(-1<<62))
	f.Fuzz(func(t *testing.T, s string, input []byte, n int64) {
		e := &Event{
			Time: time.Unix(n, n), Kind: Kind(s), DecisionID: s, Writer: s, WriterSequence: n, StepUUID: uuid, Repository: s, Host: s, Path: s, TargetRaw: s,
			Verdict: s, Rules: []string{s, s}, Message: s, BytesSent: n, Duration: time.Duration(n), Status: int(n), ClientAddress: netip.IPv6LinkLocalAllNodes().WithZone(s),
			Attributes: []Attribute{{s, s}}, Input: input,
		}
		e.Normalise()
		record := e.AppendRecord(nil)
		if !json.Valid(record) || !utf8.Valid(record) || bytes.IndexByte(record, 0) >= 0 {
			t.Fatalf("%q", record)
		}
		var back struct {
			Host, Path string
			Sequence   int64 `json:"writer_sequence"`
		}
		if err := json.Unmarshal(record, &back); err != nil || back.Host != e.Host || back.Path != e.Path || back.Sequence != n {
			t.Fatalf("%v: %+v", err, back)
		}
		e.Normalise()
		if again := e.AppendRecord(nil); !bytes.Equal(again, record) {
			t.Fatalf("normalising twice\n%s\n%s", record, again)
		}
		e.WriterSequence++
		if Leaf(e.AppendRecord(nil)) == Leaf(record) {
			t.Fatal("two events have one leaf")
		}
	})
}

func BenchmarkNormalise(b *testing.B) {
	e := Event{Kind: KindDecision, DecisionID: uuid, StepUUID: uuid, Repository: "acme/payments", Host: "api.partner.example",
		Input: []byte(`{"principal":{"kind":"bitbucket_step","workspace":{"slug":"acme"},"repository":{"full_name":"acme/payments"}},"target":{"host":"api.partner.example","port":443}}`)}
	b.ReportAllocs()
	for b.Loop() {
		e.Normalise()
	}
}
