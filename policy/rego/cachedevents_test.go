package rego

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/fair"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

// eventLog is the rest of a gate: it accepts each credential, and keeps the records of the
// events.
type eventLog struct {
	principal *identity.Principal
	records   []string
	reasons   map[string]int
}

func (l *eventLog) Authenticate(context.Context, identity.Credential) (*identity.Principal, error) {
	return l.principal, nil
}

func (l *eventLog) AvailableTo(audit.Source) error { return nil }

func (l *eventLog) Record(_ context.Context, e *audit.Event) error {
	l.reasons[e.Reason]++
	e.DecisionID = ""
	l.records = append(l.records, string(e.AppendRecord(nil)))
	return nil
}

func (l *eventLog) Resolve(context.Context, fair.Subject, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("93.184.216.34")}, nil
}

// gateOf returns a gate over a decider, whose clock is at.
func gateOf(t *testing.T, decider proxy.Decider, l *eventLog, at *time.Time) *proxy.Gate {
	t.Helper()
	l.reasons = map[string]int{}
	g, err := proxy.NewGate(proxy.Config{Authenticator: l, Decider: decider, Recorder: l, Resolver: l, Guard: &proxy.Guard{}, Now: func() time.Time { return *at }})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// TestCachedEventsAreTheSame: the events of the gate are the same to the byte with the
// cache and without, but for the decision id.
func TestCachedEventsAreTheSame(t *testing.T) {
	t.Parallel()
	set, err := Load(t.Context(), snapshot(t, excepted+`-- egress/more.rego --
package sallyport.egress

deny contains {"rule": "no-paste", "message": sprintf("%s is not for %s", [input.target.host, input.principal.repository.full_name])} if endswith(input.target.host, ".paste.example")

report contains {"rule": "observed"} if input.principal.branch == "trial"
`), Options{Names: true, Deadline: 5 * time.Second, Workers: oneByOne()})
	if err != nil {
		t.Fatal(err)
	}
	cached, plain := &Engine{CacheBytes: 1 << 20}, &Engine{}
	cached.Swap(set)
	plain.Swap(set)
	var at time.Time
	logs := [2]*eventLog{{}, {}}
	gates := [2]*proxy.Gate{gateOf(t, cached, logs[0], &at), gateOf(t, plain, logs[1], &at)}
	g := newRandomPolicy(46)
	for range 400 {
		r := g.request()
		r.Principal.Branch = pick(g, "main", "trial", "")
		r.Principal.Deployment = nil
		at = r.Time
		target := pick(g, "a.example:443", "x.b.example:8443", "a.paste.example:443", "own.example:443", "guarded.example:443", "192.0.2.1:443")
		for i, gate := range gates {
			logs[i].principal = r.Principal
			admission, _ := gate.Admit(t.Context(), proxy.Attempt{Action: policy.Connect, Target: target, Listener: "plain",
				Client: netip.AddrPortFrom(r.ClientAddress, 40000), Credential: identity.NewCredential("x")})
			if admission != nil {
				admission.Close(proxy.Outcome{})
			}
		}
	}
	for i, record := range logs[0].records {
		if record != logs[1].records[i] {
			t.Fatalf("%d:\ncached    %s\nevaluated %s", i, record, logs[1].records[i])
		}
	}
	if s := cached.CacheStatus(); len(logs[0].records) != len(logs[1].records) || s.Hits < 100 || len(logs[0].reasons) < 4 {
		t.Errorf("%d events, %d without the cache, %+v, %v", len(logs[0].records), len(logs[1].records), s, logs[0].reasons)
	}
}
