package proxy

import (
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/policy"
)

// TestStoppedGate: during an emergency stop every request is refused, nothing is decided
// or looked up, and the principal is recorded.
func TestStoppedGate(t *testing.T) {
	w := newEnv()
	g := w.gate(t)
	g.Stop()
	if !g.Stopped() {
		t.Error("it is not stopped")
	}
	a, r := g.Admit(t.Context(), attempt(name))
	if a != nil || r == nil || r.Reason != policy.EmergencyStop || r.Status != 503 || !r.Recorded || r.Cause() != CauseEmergencyStop {
		t.Fatalf("got %+v, %+v", a, r)
	}
	for _, step := range w.trace {
		if step == "decide" || step == "resolve" {
			t.Errorf("it did %v", w.trace)
		}
	}
	for _, bad := range []Attempt{attempt("%%"), {Action: policy.Connect, Target: name}} {
		if _, r := g.Admit(t.Context(), bad); r == nil || r.Reason != policy.EmergencyStop {
			t.Errorf("%q: %+v", bad.Target, r)
		}
	}
	g.Resume()
	if a, r := g.Admit(t.Context(), attempt(name)); a == nil {
		t.Errorf("resumed: %+v", r)
	}
}

// TestStoppedGateRecordsRefusedPrincipals: the record of a refused credential names its principal.
func TestStoppedGateRecordsRefusedPrincipals(t *testing.T) {
	w := newEnv()
	who := &identity.Principal{Step: identity.Run{UUID: "s"}, Repository: identity.Repository{UUID: "r"}}
	w.authErr = &identity.Error{Problem: identity.CredentialRevoked, Principal: who}
	g := w.gate(t)
	g.Stop()
	if _, r := g.Admit(t.Context(), attempt(name)); r == nil || r.Reason != policy.EmergencyStop || !r.Recorded {
		t.Errorf("got %+v", r)
	}
	w.authErr = errors.New("a fault")
	if _, r := g.Admit(t.Context(), attempt(name)); r == nil || r.Reason != policy.EmergencyStop || r.Recorded {
		t.Errorf("got %+v", r)
	}
}

// TestBarred: what was on its way when the operator's word came is closed where
// it begins. Without the question it would stay open: the other half shows it.
func TestBarred(t *testing.T) {
	var revoked atomic.Bool
	tracker := NewTracker(TunnelConfig{Barred: func(*Admission) Cause {
		if revoked.Load() {
			return CauseRevoked
		}
		return ""
	}})
	late := newTunnelEnv(t, withTracker(tracker)) // through the gate and dialed
	revoked.Store(true)
	tracker.Close(CauseRevoked, nil)
	late.start()
	if out := <-late.ended; out.Cause != CauseRevoked || out.Sent != 0 {
		t.Errorf("ended with %+v", out)
	}
	open := NewTracker(TunnelConfig{})
	unasked := newTunnelEnv(t, withTracker(open))
	open.Close(CauseRevoked, nil)
	unasked.start()
	if _, err := unasked.client.Write([]byte("through")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 7)
	if _, err := io.ReadFull(unasked.target, got); err != nil || string(got) != "through" {
		t.Errorf("negative control: %q, %v", got, err)
	}
	open.Close(CauseOperator, nil)
	<-unasked.ended
}

// TestCloseReachesRequests: Close reaches each request that a forwarder has, once, and
// only those that it is meant for.
func TestCloseReachesRequests(t *testing.T) {
	tracker := NewTracker(TunnelConfig{})
	one, two := &Admission{ID: "one"}, &Admission{ID: "two"}
	causes := map[string][]Cause{}
	begin := func(a *Admission) func() {
		return tracker.Begin(a, func(c Cause) { causes[a.ID] = append(causes[a.ID], c) })
	}
	endOne, endTwo := begin(one), begin(two)
	if n := tracker.Close(CauseOperator, func(a *Admission) bool { return a == one }); n != 1 {
		t.Errorf("closed %d", n)
	}
	if n := tracker.Close(CauseEmergencyStop, nil); n != 1 {
		t.Errorf("closed %d", n)
	}
	endOne()
	endTwo()
	begin(one)()
	if n := tracker.Close(CauseEmergencyStop, nil); n != 0 {
		t.Errorf("closed %d that are over", n)
	}
	if len(causes["one"]) != 1 || causes["one"][0] != CauseOperator || len(causes["two"]) != 1 || causes["two"][0] != CauseEmergencyStop {
		t.Errorf("stopped with %v", causes)
	}
	barred := NewTracker(TunnelConfig{Barred: func(*Admission) Cause { return CauseEmergencyStop }})
	var cause Cause
	barred.Begin(one, func(c Cause) { cause = c })()
	if cause != CauseEmergencyStop {
		t.Errorf("a request that may not begin: %q", cause)
	}
}

// TestCredentialEnds: an open tunnel outlives its credential, unless it is
// configured to end with it, after the grace and for that cause.
func TestCredentialEnds(t *testing.T) {
	ends := func(left time.Duration) tunnelOption {
		return func(r *tunnelEnv) {
			r.w.principal = &identity.Principal{Step: identity.Run{UUID: "s"}, Expires: time.Now().Add(left)}
		}
	}
	keeps := openTunnel(t, ends(-time.Hour))
	closes := openTunnel(t, withConfig(TunnelConfig{EndWithCredential: true, CredentialGrace: 300 * time.Millisecond}), ends(0))
	begun := time.Now()
	if out := <-closes.ended; out.Cause != CauseCredentialEnded {
		t.Errorf("ended with %s", out.Cause)
	}
	if took := time.Since(begun); took < 100*time.Millisecond {
		t.Errorf("after %v, without its grace", took)
	}
	// The decision's own end comes first where it is earlier.
	earlier := openTunnel(t, withConfig(TunnelConfig{EndWithCredential: true}), ends(time.Hour), withLimits(policy.Limits{Lifetime: 100 * time.Millisecond}))
	if out := <-earlier.ended; out.Cause != CauseLifetime {
		t.Errorf("ended with %s", out.Cause)
	}
	if _, err := keeps.client.Write([]byte("on")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(keeps.target, make([]byte, 2)); err != nil {
		t.Errorf("a tunnel that is kept: %v", err)
	}
	keeps.tracker.Close(CauseOperator, nil)
	<-keeps.ended
}
