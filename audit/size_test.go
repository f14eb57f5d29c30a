package audit

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// longEvent is an event in which everything that a step, or a rule of its
// repository, can make long is.
func longEvent(kind Kind, s string) *Event {
	e := &Event{Kind: kind, DecisionID: uuid, Verdict: "deny", Host: s, Method: s, Path: s, TargetRaw: s, Branch: s, Rule: s, Message: s, Repository: s,
		Issuer: s, Workspace: s, Project: s, Deployment: s, DeploymentType: s, Reason: s, Revision: s, Commit: s, UpstreamProxy: s, CloseReason: s}
	for range 300 {
		e.Rules, e.Exceptions = append(e.Rules, s), append(e.Exceptions, s)
		e.Attributes = append(e.Attributes, Attribute{Name: s, Value: s})
		e.Addresses = append(e.Addresses, netip.MustParseAddr("2001:db8:1111:2222:3333:4444:5555:6666"))
	}
	e.Input, _ = json.Marshal(map[string]string{"path": s})
	return e
}

// TestRequestEventsAreCapped: whatever is long, the record of an event about a
// request fits its bound, and the digest of what was cut is in it.
func TestRequestEventsAreCapped(t *testing.T) {
	long := strings.Repeat("/x", 32<<10)
	e := &Event{Time: time.Unix(1790000000, 0), Kind: KindDecision, DecisionID: uuid, Path: long, Host: "a.example", Rules: slices.Repeat([]string{"r"}, 200)}
	e.Input, _ = json.Marshal(map[string]string{"path": long})
	input := digestOf(string(e.Input))
	e.Normalise()
	got := map[string]string{}
	for _, a := range e.Attributes {
		got[a.Name] = a.Value
	}
	if got["path_sha256"] != digestOf(long) || got["input_sha256"] != input || got["input_bytes"] != "65547" || got["rules_sha256"] != digestOf(strings.Repeat("r\n", 200)) || len(got) != 4 {
		t.Errorf("%v", got)
	}
	if !strings.HasSuffix(e.Path, "…") || len(e.Path) > capText || e.Input != nil || len(e.Rules) != capList || e.Host != "a.example" {
		t.Errorf("%+v", e)
	}
	if n := len(e.AppendRecord(nil)); n > 5000 {
		t.Errorf("the record has %d bytes", n)
	}
	for _, kind := range []Kind{KindDecision, KindTunnelClosed, KindRequestClosed} {
		for _, s := range []string{long, strings.Repeat(`"`, 3000), strings.Repeat("\x00", 3000), strings.Repeat(`\`, 90), strings.Repeat("ü", 400)} {
			e := longEvent(kind, s)
			e.Normalise()
			checkCapped(t, e)
			if e.Attributes[0].Name != "event_sha256" && len(s) > 100 {
				t.Errorf("%s: the event was cut, and its first attribute is %+v", kind, e.Attributes[0])
			}
		}
	}
}

// TestEveryTextIsCapped: a new field of text that [Event.Normalise] does not know
// would have no bound.
func TestEveryTextIsCapped(t *testing.T) {
	e := &Event{Kind: KindDecision}
	long := strings.Repeat("x", 3000)
	v := reflect.ValueOf(e).Elem()
	for i := range v.NumField() {
		if f := v.Field(i); f.Kind() == reflect.String && v.Type().Field(i).Name != "Kind" {
			f.SetString(long)
		}
	}
	e.Normalise()
	for i := range v.NumField() {
		if f := v.Field(i); f.Kind() == reflect.String && f.Len() > tightText {
			t.Errorf("%s has %d bytes", v.Type().Field(i).Name, f.Len())
		}
	}
	checkCapped(t, e)
}

func checkCapped(t *testing.T, e *Event) {
	t.Helper()
	e.Writer, e.WriterSequence = "2026-11-30T09:00:00Z-"+strings.Repeat("f", 64), 1<<62
	record := e.AppendRecord(nil)
	if len(record) > MaxRequestRecord || !json.Valid(record) {
		t.Fatalf("the record has %d bytes, or is not JSON: %.300s", len(record), record)
	}
	e.Normalise()
	if again := e.AppendRecord(nil); !bytes.Equal(again, record) {
		t.Fatalf("normalised again, the record is\n%s\nand was\n%s", again, record)
	}
}

// TestRecordCapIsNeeded: without the cap on the whole record, the caps on its
// fields let one refusal take a hundred kilobytes. Other kinds of events, which no
// step can cause, do not have it.
func TestRecordCapIsNeeded(t *testing.T) {
	e := longEvent(KindAdmin, strings.Repeat("x", 3000))
	e.Normalise()
	if n := len(e.AppendRecord(nil)); n < 6*MaxRequestRecord {
		t.Errorf("without the cap the record has %d bytes: the test cannot fail", n)
	}
}

func FuzzRequestRecord(f *testing.F) {
	f.Add("a\x00\"", 300, 5, 3)
	f.Add("\u202e", 9000, 200, 90)
	f.Add("\\", 513, 100, 100)
	f.Fuzz(func(t *testing.T, s string, times, entries, attributes int) {
		long := strings.Repeat(s, 1+(times&0xfff)%(1+20_000/(len(s)+1)))
		e := longEvent(KindDecision, long)
		e.Rules, e.Exceptions, e.Attributes = e.Rules[:entries&0xff], e.Exceptions[:entries&0xff], e.Attributes[:attributes&0xff]
		e.Normalise()
		checkCapped(t, e)
	})
}

// TestDetach: an event whose host is a part of a long request target does not keep
// the target in memory.
func TestDetach(t *testing.T) {
	const events, long = 200, 64 << 10
	held := func(detach bool) int64 {
		list := make([]Event, events)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for i := range list {
			target := strings.Repeat("x", long)
			e := &list[i]
			e.Host, e.Path, e.TargetRaw, e.Method = target[:10], target[20:40], target[40:50], target[50:60]
			if detach {
				e.Detach()
			}
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		runtime.KeepAlive(list)
		return int64(after.HeapAlloc) - int64(before.HeapAlloc)
	}
	if n := held(false); n < events*long*9/10 {
		t.Errorf("without it %d bytes are held: the test cannot fail", n)
	}
	if n := held(true); n > events*long/4 {
		t.Errorf("%d bytes are held", n)
	}
}
