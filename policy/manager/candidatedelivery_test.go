package manager

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/rego"
	"github.com/sallyport/sallyport/webhook"
)

// eventLog keeps events.
type eventLog struct{ events []*audit.Event }

func (l *eventLog) Record(_ context.Context, e *audit.Event) error {
	l.events = append(l.events, e)
	return nil
}
func (*eventLog) PutPolicy(context.Context, string, []byte) error { return nil }
func (*eventLog) HasPolicy(context.Context, string) (bool, error) { return true, nil }

// deliverySet is a set with these rules about deliveries; empty: none.
func deliverySet(t *testing.T, rules string) *rego.Set {
	t.Helper()
	files := []policy.File{{Path: "egress/a.rego", Content: []byte("package sallyport.egress\n\nallow contains {\"rule\": \"x\"} if input.target.port == 443\n")}}
	if rules != "" {
		files = append(files, policy.File{Path: "webhook/a.rego", Content: []byte("package sallyport.webhook\n\n" + rules)})
	}
	snapshot, err := policy.NewSnapshot(files, "")
	if err != nil {
		t.Fatal(err)
	}
	set, err := rego.Load(t.Context(), snapshot, rego.Options{Names: true})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

const (
	allowPushes = "allow contains {\"rule\": \"pushes\"} if input.event == \"repo:push\"\n"
	denyAll     = "deny contains {\"rule\": \"none\"} if input.event == \"repo:push\"\n"
	toJenkins   = "route contains {\"rule\": \"to-jenkins\", \"action\": \"forward\", \"endpoint\": \"jenkins\"} if input.event == \"repo:push\"\n"
	toPolicy    = "route contains {\"rule\": \"refresh\", \"action\": \"refresh_policy\"} if input.event == \"repo:push\"\n"
)

// TestCandidateSeesDeliveries: a candidate evaluates the deliveries that the engine decides,
// and another verdict or other routes are counted, and recorded once.
func TestCandidateSeesDeliveries(t *testing.T) {
	t.Parallel()
	event, err := webhook.Parse(webhook.Cloud, "repo:push", []byte(`{"repository":{"full_name":"acme/app","uuid":"{11112222-3333-4444-5555-666677778888}"},"push":{"changes":[]}}`))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		active, candidate string
		counts            string // opens, closes, reroutes
		routes            string // of the event: decided -> candidate
	}{
		"the same":              {allowPushes + toJenkins, allowPushes + toJenkins + "\n", "0 0 0", ""},
		"denies":                {allowPushes + toJenkins, allowPushes + toJenkins + denyAll, "0 1 0", "forward jenkins -> "},
		"allows":                {allowPushes + denyAll, allowPushes, "1 0 0", " -> "},
		"routes elsewhere":      {allowPushes + toJenkins, allowPushes, "0 0 1", "forward jenkins -> "},
		"refreshes no policy":   {allowPushes + toPolicy, allowPushes, "0 0 1", "refresh_policy -> "},
		"both have no rules":    {"", "", "0 0 0", ""},
		"the first rules":       {"", allowPushes + toJenkins, "0 0 1", " -> forward jenkins"},
		"the first rules, deny": {"", denyAll, "0 1 0", " -> "},
		"no rules any longer":   {allowPushes + denyAll, "", "1 0 0", " -> "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := &eventLog{}
			p := &Manager{engine: new(rego.Engine), audit: log, log: slog.New(slog.DiscardHandler)}
			p.candidate = &candidate{manager: p, log: p.log, queue: make(chan offered, 10), recorded: map[string]bool{}}
			p.candidate.set.Store(deliverySet(t, c.candidate))
			p.engine.Swap(deliverySet(t, c.active))
			p.engine.ObserveDelivery = p.candidate.offerDelivery
			for range 2 {
				_, _ = p.engine.DecideDelivery(t.Context(), &webhook.Delivery{Receiver: "builds", Event: event, Received: time.Now()}) // without rules, an error
				p.candidate.evaluateDelivery(t.Context(), (<-p.candidate.queue).delivery)
			}
			st := p.CandidateStatus()
			if got := fmt.Sprint(st.Opens/2, st.Closes/2, st.Reroutes/2); got != c.counts || st.Evaluated != 2 || st.Failed != 0 {
				t.Errorf("counted %s, %+v", got, st)
			}
			if want := map[bool]int{true: 0, false: 1}[c.counts == "0 0 0"]; len(log.events) != want {
				t.Fatalf("%d events", len(log.events))
			}
			for _, e := range log.events {
				a := map[string]string{}
				for _, x := range e.Attributes {
					a[x.Name] = x.Value
				}
				if e.Kind != audit.KindCandidateMismatch || e.Action != "webhook" || e.Repository != "acme/app" || a["receiver"] != "builds" || a["event"] != "repo:push" || e.Revision == "" || len(e.Input) == 0 ||
					a["decided_routes"]+" -> "+a["routes"] != c.routes || strings.Contains(fmt.Sprint(e.Verdict), "error") {
					t.Errorf("%+v", e)
				}
			}
		})
	}
}
