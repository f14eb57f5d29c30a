package audit

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"
)

const stepInput = `{"principal":{"kind":"pipeline_step","workspace":{"uuid":"922e118c-f34f-4226-a897-0e0afbec553d","slug":"acme"},` +
	`"repository":{"uuid":"11112222-3333-4444-5555-666677778888","full_name":"acme/payments","project":"PAY"},` +
	`"deployment":{"uuid":"aaaabbbb-cccc-4ddd-8eee-ffff00001111","name":"Production \"EU\"","slug":"production-eu","type":"production"},` +
	`"pipeline":{"uuid":"5f0c1d2e-0000-4000-8000-000000000001"},"step":{"uuid":"5f0c1d2e-0000-4000-8000-000000000002"},"branch":"main"},` +
	`"action":"request","target":{"scheme":"http","host":"api.partner.example","port":80},` +
	`"request":{"method":"GET","path":"/a","headers":{"accept":"}},\"client\":{"}},"client":{"address":"10.1.2.3"},"time":"2026-11-21T08:40:00.1234Z"}`

// inputEvent has an input that repeats its fields.
func inputEvent() *Event {
	return &Event{
		Time: time.Date(2026, 11, 21, 8, 40, 0, 123400000, time.UTC), Kind: KindDecision, DecisionID: "019a0000-0000-7000-8000-000000000001", Writer: "w", WriterSequence: 1,
		WorkspaceUUID: "922e118c-f34f-4226-a897-0e0afbec553d", RepositoryUUID: "11112222-3333-4444-5555-666677778888", DeploymentUUID: "aaaabbbb-cccc-4ddd-8eee-ffff00001111",
		PipelineUUID: "5f0c1d2e-0000-4000-8000-000000000001", StepUUID: "5f0c1d2e-0000-4000-8000-000000000002",
		Workspace: "acme", Repository: "acme/payments", Project: "PAY", Deployment: "production-eu", DeploymentType: "production", Branch: "main",
		ClientAddress: netip.MustParseAddr("10.1.2.3"), Action: "request", Scheme: "http", Host: "api.partner.example", Port: 80, Method: "GET", Path: "/a",
		Verdict: "allow", Input: []byte(stepInput),
	}
}

// TestInputIsNotRepeated: a record holds only the parts of the input that no other
// field has, and a reader gets the bytes that policy evaluated.
func TestInputIsNotRepeated(t *testing.T) {
	for name, change := range map[string]func(*Event){
		"all of it": func(*Event) {},
		"no deployment": func(e *Event) {
			e.cut(`"deployment":{`, `"pipeline"`)
			e.Deployment, e.DeploymentUUID, e.DeploymentType = "", "", ""
		},
		"no name":    func(e *Event) { e.cut(`"name":`, `"slug":"production-eu"`) },
		"connect":    func(e *Event) { e.cut(`"request":`, `"client"`); e.Method, e.Path = "", "" },
		"no scheme":  func(e *Event) { e.cut(`"scheme":`, `"host"`) },
		"no headers": func(e *Event) { e.cut(`"accept":`, `}},"client":{"address"`) },
		"no branch":  func(e *Event) { e.Input, e.Branch = bytes.Replace(e.Input, []byte(`,"branch":"main"`), nil, 1), "" },
	} {
		e := inputEvent()
		change(e)
		record := e.AppendRecord(nil)
		if bytes.Contains(record, []byte(`,"input":`)) || !bytes.Contains(record, []byte(inputPartsField)) {
			t.Errorf("%s: %s", name, record)
		}
		if d, ok, err := ReadDecided(record); !ok || err != nil || !bytes.Equal(d.Input, e.Input) {
			t.Errorf("%s: %v, %v\n got %s\nwant %s", name, ok, err, d.Input, e.Input)
		}
	}
}

// cut takes out of the input what begins with one text and ends before another.
func (e *Event) cut(from, before string) {
	head, rest, _ := strings.Cut(string(e.Input), from)
	_, tail, _ := strings.Cut(rest, before)
	e.Input = []byte(head + before + tail)
}

// TestInputOfAnotherForm: an input that differs from the fields in one byte is kept
// as it was.
func TestInputOfAnotherForm(t *testing.T) {
	for i := range len(stepInput) {
		e := inputEvent()
		e.Input[i] ^= 1
		if !isInput(e.Input) {
			continue
		}
		if d, ok, err := ReadDecided(e.AppendRecord(nil)); !ok || err != nil || !bytes.Equal(d.Input, e.Input) {
			t.Errorf("byte %d: %v, %v\n got %s\nwant %s", i, ok, err, d.Input, e.Input)
		}
	}
}

// FuzzInputIsExact: whatever the input and the fields are, what is read of a record
// is the input that was recorded.
func FuzzInputIsExact(f *testing.F) {
	f.Add([]byte(stepInput), "acme", "api.partner.example", int64(0))
	f.Add([]byte(`{"principal":{"kind":"x"}}`), `a"b`, "", int64(1))
	f.Add([]byte(`{"principal":{"kind":"x","headers":{}},"client":{}}`), ``, `,"input":{`, int64(1))
	f.Fuzz(func(t *testing.T, input []byte, workspace, host string, micros int64) {
		for _, e := range []*Event{inputEvent(), {Time: time.UnixMicro(micros), Kind: KindDecision, Writer: "w", WriterSequence: 1, Input: input}} {
			e.Workspace, e.Host = workspace, host
			e.Normalise()
			if len(e.Input) == 0 || e.Input[0] != '{' {
				continue
			}
			d, ok, err := ReadDecided(e.AppendRecord(nil))
			if !ok || err != nil || !bytes.Equal(d.Input, e.Input) {
				t.Fatalf("%v, %v\n got %s\nwant %s\n of %s", ok, err, d.Input, e.Input, e.AppendRecord(nil))
			}
		}
	})
}
