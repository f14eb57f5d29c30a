package rego

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/policy"
)

func sampleReply() *evaluationReply {
	return &evaluationReply{
		results: results{
			setAllow: {{rule: "a", message: "m", protocol: policy.ProtocolAny, address: true, ech: true, noSNI: true,
				limits:  policy.Limits{Lifetime: time.Hour, Idle: time.Minute, Sent: 1, Received: 2, StepSent: 3, StepReceived: 4},
				expires: time.Date(2026, 12, 1, 0, 0, 0, 5, time.UTC)}, {rule: "b"}},
			setDeny: {{rule: "c", always: true}},
		},
		excepted: [][]byte{[]byte(`{"owner":"kim"}`)}, readClock: true,
	}
}

// FuzzAnswered: the server accepts exactly the replies that a worker of this program
// writes.
func FuzzAnswered(f *testing.F) {
	f.Add(sampleReply().append(nil))
	f.Add((&evaluationReply{}).append(nil))
	f.Add([]byte{1, 16, 1, 'a', 0})
	f.Add(bytes.Repeat([]byte{0xff}, 40))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := readEvaluationReply(b)
		if err != nil {
			if !errors.Is(err, errWire) {
				t.Errorf("%v", err)
			}
			return
		}
		entries := 0
		for set, list := range a.results {
			entries += len(list)
			for _, e := range list {
				if e.rule == "" || e.always && set != setDeny || (e.ech || e.noSNI) && set != setAllow || len(e.message) > maxMessageBytes {
					t.Errorf("%s has %+v", set, e)
				}
			}
		}
		if entries > maxEntries {
			t.Errorf("%d entries", entries)
		}
		again, err := readEvaluationReply(a.append(nil))
		if err != nil || !bytes.Equal(a.append(nil), again.append(nil)) {
			t.Errorf("%v", err)
		}
	})
}

// FuzzWorkerReply: any bytes of a worker are a reply or an error, and never a panic.
func FuzzWorkerReply(f *testing.F) {
	f.Add([]byte(`{"text":"x","too_long":true,"place":{"File":"a","Line":1,"Column":1,"Message":"m","Hint":""},"list":[]}`))
	f.Add([]byte(`{"errors":[],"data":{"a":[1,2.5,"x",null]}}`))
	f.Add([]byte(`{"text":"x"} {"text":"y"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := readError(b); err == nil {
			t.Error("an error is none")
		}
		var d documentsReply
		if readStrictly(b, &d) == nil {
			_, _ = dataOf(d.Data)
		}
		_, _ = dataOf(b)
		var i inspectReply
		_ = readStrictly(b, &i)
		var c compileReply
		_ = readStrictly(b, &c)
	})
}

func TestReplyRoundTrips(t *testing.T) {
	want := sampleReply()
	got, err := readEvaluationReply(want.append(nil))
	if err != nil || got.results[setAllow][0] != want.results[setAllow][0] || got.results[setDeny][0] != want.results[setDeny][0] || !got.readClock || string(got.excepted[0]) != string(want.excepted[0]) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := readEvaluationReply(append(want.append(nil), 0)); err == nil {
		t.Error("more than one reply is accepted")
	}
}

// TestErrorsOfWorkers: an error has the same properties after its way from a worker.
func TestErrorsOfWorkers(t *testing.T) {
	place := Error{File: "a.rego", Line: 3, Column: 1, Message: "bad"}
	for _, err := range []error{errors.Join(errDeadline), place, Errors{place}, errors.New(strings.Repeat("long ", 10_000))} {
		reply := failure(err)
		got := readError(reply[1:])
		if reply[0] != replyError || errors.Is(got, errDeadline) != errors.Is(err, errDeadline) || len(got.Error()) > maxErrorText {
			t.Errorf("%.100v became %.100v", err, got)
		}
		if _, is := errors.AsType[Errors](err); is {
			if list, ok := errors.AsType[Errors](got); !ok || list[0] != place {
				t.Errorf("%v", got)
			}
		}
	}
}

// FuzzInputQuestion: the fast reader of inputs agrees with the general one.
func FuzzInputQuestion(f *testing.F) {
	in := newEvalInput(requestFor(f, "deployment=production", "method=GET", "path=/v1/x", "header.accept=*/*"), warmUpPart(f), nil)
	f.Add(in.json)
	f.Add(warmUpInput(egress).json)
	f.Add(warmUpInput(deliveries).json)
	f.Add([]byte(`{"time":"2026-11-21T08:40:00.5Z","a":1,"a":2}`))
	f.Add([]byte(`{"time":"2026-11-21T08:40:00Z","a":"\\u0041","b":[1],"c":null,"d":1e3}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		fast, fastErr := readInput(b, true)
		careful, err := recordedInput(b, true)
		if (err == nil) != (fastErr == nil) {
			t.Fatalf("%v and %v", fastErr, err)
		}
		if err == nil && (fast.term.Value.Compare(careful.term.Value) != 0 || !fast.time.Equal(careful.time) || fast.domain != careful.domain) {
			t.Errorf("%v and %v", fast.term, careful.term)
		}
	})
}

func warmUpPart(t testing.TB) *principalPart {
	t.Helper()
	part, err := newPrincipalPart(requestFor(t).Principal, true)
	if err != nil {
		t.Fatal(err)
	}
	return part
}
