package webhook

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/policy"
)

// decisionQueue keeps the decisions that it is given.
type decisionQueue struct {
	memoryQueue
	decision Decision
	context  error // of Accept's context
}

func (q *decisionQueue) Accept(ctx context.Context, d *Delivery, decision Decision) (Outcome, error) {
	q.decision, q.context = decision, ctx.Err()
	return q.memoryQueue.Accept(ctx, d, decision)
}

// TestReceiverLists: a verified delivery of another repository or event is recorded as
// denied, with a reason of its own, and answered 200.
func TestReceiverLists(t *testing.T) {
	t.Parallel()
	const uuid = "22222222-0000-4000-8000-000000000002"
	for name, c := range map[string]struct {
		kind         Kind
		key, body    string
		repositories []string
		events       []string
		want         policy.Reason // empty: allowed
	}{
		"no lists":                    {Cloud, "repo:push", cloudPush, nil, nil, ""},
		"by its UUID":                 {Cloud, "repo:push", cloudPush, []string{uuid}, nil, ""},
		"by its name":                 {Cloud, "repo:push", cloudPush, []string{"acme/other", "acme/egress-policy"}, nil, ""},
		"by its event":                {Cloud, "repo:push", cloudPush, nil, []string{"repo:push"}, ""},
		"another UUID":                {Cloud, "repo:push", cloudPush, []string{"22222222-0000-4000-8000-000000000003"}, nil, RepositoryNotAllowed},
		"another name":                {Cloud, "repo:push", cloudPush, []string{"acme/egress-policy2"}, nil, RepositoryNotAllowed},
		"part of the name":            {Cloud, "repo:push", cloudPush, []string{"acme", "egress-policy", ""}, nil, RepositoryNotAllowed},
		"another event":               {Cloud, "repo:push", cloudPush, []string{uuid}, []string{"pullrequest:fulfilled"}, EventNotAllowed},
		"no repository":               {Cloud, "project:updated", `{"project":{}}`, []string{uuid, ""}, nil, RepositoryNotAllowed},
		"no repository and no list":   {Cloud, "project:updated", `{"project":{}}`, nil, nil, ""},
		"Data Center, by its name":    {DataCenter, "repo:refs_changed", serverPush, []string{"prj/APP"}, nil, ""},
		"Data Center, by no UUID":     {DataCenter, "repo:refs_changed", serverPush, []string{""}, nil, RepositoryNotAllowed},
		"a merge, by its destination": {DataCenter, "pr:merged", serverMerged, []string{"PRJ/app"}, []string{"pr:merged"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q := &decisionQueue{memoryQueue: memoryQueue{outcome: Accepted}}
			p := newReceiverEnv(t, c.kind, func(config *Config) {
				config.Repositories, config.Events, config.Queue = c.repositories, c.events, q
			})
			req := delivery(c.kind, c.key, c.body)
			sign(t, req, c.body, "secret")
			status, text := p.send(t, req)
			if status != http.StatusOK || len(q.deliveries) != 1 {
				t.Fatalf("answered %d %q, and %d deliveries were recorded", status, text, len(q.deliveries))
			}
			if c.want == "" && q.decision.Verdict != policy.Allow || c.want != "" && (q.decision.Verdict != policy.Deny || q.decision.Reason != c.want || len(q.decision.Routes) > 0) {
				t.Errorf("decided %+v, want %q", q.decision, c.want)
			}
		})
	}
}

// TestConfiguredActions: an event causes those of its receiver's actions that it triggers.
func TestConfiguredActions(t *testing.T) {
	t.Parallel()
	all := []Route{{Action: RefreshPolicy}, {Action: Forward, Endpoint: "ci"}, {Action: RefreshNames}}
	decider := ConfiguredActions{
		Routes:        map[string][]Route{"policy": all, "idle": nil},
		AffectsPolicy: func(e *Event) bool { return len(e.Refs) > 0 && e.Refs[0].Name == "main" },
	}
	for name, c := range map[string]struct {
		receiver string
		event    Event
		verdict  policy.Verdict
		want     []Action
	}{
		"a push":                {"policy", Event{Kind: Cloud, Key: "repo:push", Refs: []Ref{{Name: "main"}}}, policy.Allow, []Action{RefreshPolicy, Forward}},
		"of another branch":     {"policy", Event{Kind: Cloud, Key: "repo:push", Refs: []Ref{{Name: "fix"}}}, policy.Allow, []Action{Forward}},
		"of Data Center":        {"policy", Event{Kind: DataCenter, Key: "repo:refs_changed", Refs: []Ref{{Name: "main"}}}, policy.Allow, []Action{RefreshPolicy, Forward}},
		"a merge":               {"policy", Event{Kind: Cloud, Key: "pullrequest:fulfilled", Refs: []Ref{{Name: "main"}}}, policy.Allow, []Action{RefreshPolicy, Forward}},
		"a comment":             {"policy", Event{Kind: Cloud, Key: "pullrequest:comment_created", Refs: []Ref{{Name: "main"}}}, policy.Allow, []Action{Forward}},
		"a new name":            {"policy", Event{Kind: Cloud, Key: "repo:updated"}, policy.Allow, []Action{Forward, RefreshNames}},
		"a push without action": {"idle", Event{Kind: Cloud, Key: "repo:push"}, policy.Allow, nil},
		"an unknown receiver":   {"other", Event{Kind: Cloud, Key: "repo:push"}, policy.Deny, nil},
	} {
		decision, err := decider.DecideDelivery(t.Context(), &Delivery{Receiver: c.receiver, Event: &c.event})
		if err != nil || decision.Verdict != c.verdict || len(decision.Routes) != len(c.want) || decision.Reason == "" {
			t.Errorf("%s: decided %+v: %v, want %v", name, decision, err, c.want)
			continue
		}
		for i, route := range decision.Routes {
			if route.Action != c.want[i] {
				t.Errorf("%s: action %d is %s, want %s", name, i, route.Action, c.want[i])
			}
		}
	}
}

// TestTriggersAreEvents: no action names an event that its product does not document.
func TestTriggersAreEvents(t *testing.T) {
	t.Parallel()
	for action, kinds := range triggers {
		for kind, events := range kinds {
			for _, key := range events {
				if !IsEvent(kind, key) || !action.TriggeredBy(kind, key) {
					t.Errorf("%s: %s %s", action, kind, key)
				}
			}
		}
	}
	if Forward.TriggeredBy(Cloud, "repo:refs_changed") || !Forward.TriggeredBy(Cloud, "issue:created") {
		t.Error("forward is caused by the documented events of the product, and by no others")
	}
}

// deciderFunc is a function as a decider.
type deciderFunc func(context.Context, *Delivery) (Decision, error)

func (f deciderFunc) DecideDelivery(ctx context.Context, d *Delivery) (Decision, error) {
	return f(ctx, d)
}

// TestUndecidedIsDenied: an error, a panic and a decision that states no reason do not
// become an allow.
func TestUndecidedIsDenied(t *testing.T) {
	t.Parallel()
	routes := []Route{{Action: RefreshPolicy}}
	for name, c := range map[string]struct {
		decider deciderFunc
		reason  policy.Reason
		status  int
	}{
		"an error": {func(context.Context, *Delivery) (Decision, error) {
			return Decision{Verdict: policy.Allow, Routes: routes}, errors.New("x")
		}, policy.PolicyError, 200},
		"the zero one": {func(context.Context, *Delivery) (Decision, error) { return Decision{Routes: routes}, nil }, policy.PolicyError, 200},
		"a panic":      {func(context.Context, *Delivery) (Decision, error) { panic("x") }, "", 503},
	} {
		q := &decisionQueue{memoryQueue: memoryQueue{outcome: Accepted}}
		panics := 0
		p := newReceiverEnv(t, Cloud, func(config *Config) {
			config.Queue, config.Decider, config.Panicked = q, c.decider, func(any) { panics++ }
		})
		req := delivery(Cloud, "repo:push", cloudPush)
		sign(t, req, cloudPush, "secret")
		status, _ := p.send(t, req)
		if status != c.status || q.decision.Verdict != policy.Deny || q.decision.Reason != c.reason || len(q.decision.Routes) > 0 || (panics > 0) != (c.status == 503) {
			t.Errorf("%s: answered %d, decided %+v, %d panics", name, status, q.decision, panics)
		}
	}
}

// slowQueue commits once its context ends or the delay has passed.
type slowQueue struct{ delay time.Duration }

func (q slowQueue) Accept(ctx context.Context, _ *Delivery, _ Decision) (Outcome, error) {
	select {
	case <-time.After(q.delay):
		return Accepted, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// TestSlowCommit: a response takes less than the 10 s that Bitbucket waits, also where the
// decision and the commit take longer; and a client that disconnects cancels neither.
func TestSlowCommit(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		commit, decision time.Duration
		status           int
		took             time.Duration
	}{
		"in time":         {commit: time.Second, status: 200, took: time.Second},
		"a slow decision": {decision: time.Hour, status: 200, took: decisionTimeout},
		"a slow commit":   {commit: time.Hour, status: 503, took: commitTimeout},
		"both":            {commit: time.Hour, decision: time.Hour, status: 503, took: decisionTimeout + commitTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				secret := secretOf(t, "secret")
				r, err := NewReceiver(Config{Kind: Cloud, Secrets: func() []Secret { return []Secret{secret} }, Queue: slowQueue{c.commit},
					Decider: deciderFunc(func(ctx context.Context, _ *Delivery) (Decision, error) {
						select {
						case <-time.After(c.decision):
							return Decision{Verdict: policy.Allow, Reason: Configured}, nil
						case <-ctx.Done():
							return Decision{}, ctx.Err()
						}
					})})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				req := delivery(Cloud, "repo:push", cloudPush).WithContext(ctx)
				sign(t, req, cloudPush, "secret")
				began, w := time.Now(), statusOnly{new(int)}
				r.ServeHTTP(w, req)
				if took := time.Since(began); *w.status != c.status || took != c.took {
					t.Errorf("answered %d after %s, want %d after %s", *w.status, took, c.status, c.took)
				}
			})
		})
	}
	if total := bodyTimeout + decisionTimeout + commitTimeout; total >= 10*time.Second {
		t.Errorf("a response may take %s", total)
	}
}

type statusOnly struct{ status *int }

func (statusOnly) Header() http.Header         { return http.Header{} }
func (statusOnly) Write(p []byte) (int, error) { return len(p), nil }
func (s statusOnly) WriteHeader(status int)    { *s.status = status }

// TestBodyMemory: memory is reserved while a body arrives, in proportion to what has
// arrived, and is released with the response.
func TestBodyMemory(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		limit  int64
		body   string
		status int
	}{
		"enough":    {256 << 10, padded(t, 200<<10), 200},
		"too large": {128 << 10, padded(t, 200<<10), 503},
		"small":     {firstBody, cloudPush, 200},
	} {
		var reserved, most int64
		p := newReceiverEnv(t, Cloud, func(config *Config) {
			config.Reserve = func(client netip.Addr, n int64) (func(), bool) {
				if reserved+n > c.limit || !client.IsLoopback() {
					return nil, false
				}
				reserved += n
				most = max(most, reserved)
				return func() { reserved -= n }, true
			}
		})
		req := delivery(Cloud, "repo:push", c.body)
		sign(t, req, c.body, "secret")
		status, text := p.send(t, req)
		p.server.Close() // waits for the handler
		if status != c.status || reserved != 0 || most == 0 || most > 2*int64(len(c.body))+firstBody {
			t.Errorf("%s: answered %d %q, %d of at most %d bytes are still reserved", name, status, text, reserved, most)
		}
	}
}

// TestSlowBodyOverHTTP2: a body that stalls ends its stream, and not the connection.
func TestSlowBodyOverHTTP2(t *testing.T) {
	t.Parallel()
	p := newReceiverEnv(t, Cloud, func(c *Config) { c.Timeout = 50 * time.Millisecond })
	req := delivery(Cloud, "repo:push", cloudPush)
	sign(t, req, cloudPush, "secret")
	var begin *io.PipeWriter // the first bytes arrive, and no others; closing the reader ends the write
	req.Body, begin = io.Pipe()
	go func() { _, _ = io.WriteString(begin, cloudPush[:10]) }()
	if status, text := p.send(t, req); status != http.StatusRequestTimeout {
		t.Errorf("answered %d %q", status, text)
	}
	again := delivery(Cloud, "repo:push", cloudPush)
	sign(t, again, cloudPush, "secret")
	if status, text := p.send(t, again); status != http.StatusOK {
		t.Errorf("afterwards %d %q", status, text)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refused[SlowProblem] != 1 {
		t.Errorf("counted %v", p.refused)
	}
}
