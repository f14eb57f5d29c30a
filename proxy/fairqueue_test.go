package proxy

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/destination"
	"github.com/sallyport/sallyport/internal/proxytest"
	"github.com/sallyport/sallyport/policy"
)

// halves is a policy of two halves: the organization denies a host at once, each
// repository's rules take their time and then deny as they were made.
type halves struct {
	changes
	takes     map[string]time.Duration // by the repository's UUID
	denies    string                   // the organization: this host
	deniesOwn map[string]bool          // the repository: everything
	fails     map[string]bool          // its rules end in an error
	applied   map[string]time.Time     // when a repository's rules were last evaluated
}

func (h *halves) DecideOrganization(_ context.Context, r *policy.Request) (policy.Decision, bool, error) {
	if r.Target.Host == h.denies {
		return policy.Decision{Reason: policy.PolicyDenied, Rule: "no-partner", Revision: second}, true, nil
	}
	return policy.Decision{Verdict: policy.Allow, Revision: second}, false, nil
}

func (h *halves) Decide(ctx context.Context, r *policy.Request) (policy.Decision, error) {
	if d, final, _ := h.DecideOrganization(ctx, r); final {
		return d, nil
	}
	repository := r.Principal.Repository.UUID
	time.Sleep(h.takes[repository])
	h.mu.Lock()
	defer h.mu.Unlock()
	h.applied[repository] = time.Now()
	d := policy.Decision{Verdict: policy.Allow, Revision: second}
	if h.deniesOwn[repository] {
		d = policy.Decision{Reason: policy.PolicyDenied, Rule: "own", Revision: second}
	}
	if h.fails[repository] {
		return policy.Decision{Reason: policy.PolicyError, Revision: second}, errors.New("a rule of the repository failed")
	}
	return d, nil
}

// openTunnels fills a tracker with n tunnels of a repository, a question each.
func openTunnels(t *testing.T, tr *Tracker, repository, host string, n int) {
	t.Helper()
	l := proxytest.Listen(t, "127.0.0.1:0")
	defer l.Close()
	client, upstream := connected(t, l)
	t.Cleanup(func() { _, _ = client.Close(), upstream.Close() })
	for i := range n {
		a := &Admission{
			ID: fmt.Sprint(repository, i), Target: destination.Target{Host: host, Port: uint16(i + 1)}, action: policy.Connect,
			Principal: &identity.Principal{Repository: identity.Repository{UUID: repository}},
			active:    activation{digest: "sha256:feed"}, began: time.Now(), Admitted: time.Now().UTC(),
		}
		tr.open[newTunnel(tr.config, a, client, nil, upstream)] = struct{}{}
	}
}

// stopped counts the tunnels of a repository that are to end.
func stopped(tr *Tracker, repository string) (n int) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for tun := range tr.open {
		tun.mu.Lock()
		if tun.cause == CausePolicyChanged && tun.admission.Principal.Repository.UUID == repository {
			n++
		}
		tun.mu.Unlock()
	}
	return n
}

// slowNeighbor is a hundred tunnels of a repository whose rules take 0.3 s each,
// ten of one with fast rules that deny, and one to a host that the organization
// denies. It returns how long after the change the fast repository's rules and the
// organization's were applied to all of theirs.
func slowNeighbor(t *testing.T, without string) (fast, organization time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		tr := NewTracker(TunnelConfig{MaxLifetime: 24 * time.Hour})
		h := &halves{
			takes:  map[string]time.Duration{"slow": 300 * time.Millisecond, "fast": time.Millisecond},
			denies: "raw.partner.example", deniesOwn: map[string]bool{"fast": true}, applied: map[string]time.Time{},
		}
		openTunnels(t, tr, "slow", "slow.example", 100)
		openTunnels(t, tr, "slow", h.denies, 1)
		openTunnels(t, tr, "fast", "fast.example", 10)
		c := ReevaluatorConfig{Tracker: tr, Decider: h, Organization: h, Recorder: h, Repositories: 1}
		if without == "organization" {
			c.Organization = nil
		}
		r := NewReevaluator(c)
		if without == "shares" {
			r.queue.shareOf = func(*queueItem) string { return "" }
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { r.Run(ctx) })
		began := time.Now()
		r.Changed(second, 0)
		for fast == 0 || organization == 0 {
			time.Sleep(time.Millisecond)
			synctest.Wait()
			if stopped(tr, "fast") == 10 && fast == 0 {
				fast = time.Since(began)
			}
			if stopped(tr, "slow") == 1 && organization == 0 {
				organization = time.Since(began)
			}
		}
		cancel()
		running.Wait()
		if took := time.Since(began); without == "" && took > 2*time.Second {
			t.Errorf("it took %v", took)
		}
	})
	return fast, organization
}

// TestSlowRepositoryDelaysItself: within two seconds of a change the organization's
// deny and another repository's deny are applied, whatever a repository's rules take.
func TestSlowRepositoryDelaysItself(t *testing.T) {
	fast, organization := slowNeighbor(t, "")
	if fast > 2*time.Second || organization > 100*time.Millisecond {
		t.Errorf("the other repository waited %v, the organization %v", fast, organization)
	}
}

// TestSharesPerRepositoryAreNeeded: in one queue, the others wait for the slow one.
func TestSharesPerRepositoryAreNeeded(t *testing.T) {
	if fast, _ := slowNeighbor(t, "shares"); fast <= 2*time.Second {
		t.Errorf("the other repository waited %v only", fast)
	}
}

// TestOrganizationFirstIsNeeded: without its half first, the organization's deny
// waits for the repository's rules.
func TestOrganizationFirstIsNeeded(t *testing.T) {
	// What is expected of a repository is known once it has been evaluated; the order
	// of its own is any.
	for range 20 {
		if _, organization := slowNeighbor(t, "organization"); organization > 2*time.Second {
			return
		}
	}
	t.Error("the organization's deny never waited")
}

// TestOrganizationDenyOutranksFailingRules: the tunnel is closed though the
// repository's rules cannot be evaluated; its others stay open.
func TestOrganizationDenyOutranksFailingRules(t *testing.T) {
	tr := NewTracker(TunnelConfig{})
	h := &halves{denies: "raw.partner.example", fails: map[string]bool{"failing": true}, applied: map[string]time.Time{}}
	openTunnels(t, tr, "failing", "other.example", 1)
	openTunnels(t, tr, "failing", h.denies, 1)
	r := NewReevaluator(ReevaluatorConfig{Tracker: tr, Decider: h, Organization: h, Recorder: h})
	r.Changed(second, 0)
	r.pass(t.Context())
	if n := stopped(tr, "failing"); n != 1 {
		t.Errorf("%d of the two are closed", n)
	}
	if s := r.Status(); s.Errors != 1 || s.Closed != 1 {
		t.Errorf("%+v", s)
	}
	if len(h.events) != 2 || h.events[0].Reason != "" || h.events[1].Reason != string(policy.PolicyError) {
		t.Errorf("recorded %+v", h.events)
	}
}

// TestChangeReplacesTheQueue: a second change does not wait for the evaluations that
// the first has queued, and nothing is applied of a revision that is replaced.
func TestChangeReplacesTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := NewTracker(TunnelConfig{MaxLifetime: 24 * time.Hour})
		h := &halves{takes: map[string]time.Duration{"slow": 300 * time.Millisecond}, applied: map[string]time.Time{}}
		openTunnels(t, tr, "slow", "slow.example", 10)
		var durations []time.Duration
		r := NewReevaluator(ReevaluatorConfig{Tracker: tr, Decider: h, Organization: h, Recorder: h,
			Completed: func(d time.Duration) { durations = append(durations, d) }})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { r.Run(ctx) })
		r.Changed(second, 0)
		time.Sleep(450 * time.Millisecond) // in the middle of an evaluation
		r.Changed(second, 0)
		synctest.Wait()
		if n := r.Status().Pending; n != 9 {
			t.Errorf("%d evaluations wait", n)
		}
		for r.Status().Completed == 0 {
			time.Sleep(10 * time.Millisecond)
		}
		cancel()
		running.Wait()
		if len(durations) != 1 || durations[0] < time.Second {
			t.Errorf("the two changes were reported as reevaluations of %v", durations)
		}
		if len(tr.outdated()) != 0 {
			t.Errorf("%d are outdated", len(tr.outdated()))
		}
		if r.queue.len() != 0 || len(r.queue.shares) != 0 || r.queue.pass != nil {
			t.Errorf("the queue keeps %+v", r.queue)
		}
	})
}

// TestStuckRepositoriesDelayNoOthers: repositories whose evaluations do not end delay no
// other one, of which there is more than one evaluation to make.
func TestStuckRepositoriesDelayNoOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := NewTracker(TunnelConfig{MaxLifetime: 24 * time.Hour})
		h := &halves{takes: map[string]time.Duration{}, deniesOwn: map[string]bool{"fast": true}, applied: map[string]time.Time{}}
		for i := range 20 {
			stuck := fmt.Sprint("stuck", i)
			h.takes[stuck] = time.Hour
			openTunnels(t, tr, stuck, "stuck.example", 3)
		}
		openTunnels(t, tr, "fast", "fast.example", 10)
		r := NewReevaluator(ReevaluatorConfig{Tracker: tr, Decider: h, Organization: h, Recorder: h})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { r.Run(ctx) })
		r.Changed(second, 0)
		time.Sleep(time.Second)
		synctest.Wait()
		if n := stopped(tr, "fast"); n != 10 {
			t.Errorf("%d of 10 are closed after a second", n)
		}
		cancel()
		running.Wait()
	})
}
