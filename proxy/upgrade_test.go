package proxy

import (
	"testing"

	"github.com/sallyport/sallyport/policy"
)

// An operator's word that comes between a request's last step and its tunnel's
// first still ends it.
func TestStoppedBeforeItBecomesATunnel(t *testing.T) {
	r := newTunnelEnv(t)
	r.admitted.action = policy.Forward
	end := r.tracker.Begin(r.admitted, func(Cause) {})
	if n := r.tracker.Close(CauseOperator, nil); n != 1 {
		t.Fatalf("closed %d", n)
	}
	end()
	r.admitted.ReserveReceived(7)
	out := r.tracker.RunUpgraded(r.admitted, r.stream, nil, r.upstream)
	if out.Cause != CauseOperator || out.UpstreamStatus != 101 || out.Received != 7 {
		t.Errorf("it ended as %+v", out)
	}
}

// A tunnel that a request has become contains no ClientHello, whatever the decision
// requires of tunnels.
func TestUpgradedIsNotCheckedForTLS(t *testing.T) {
	r := newTunnelEnv(t, checked)
	r.admitted.action = policy.Forward
	ended := make(chan Outcome, 1)
	go func() { ended <- r.tracker.RunUpgraded(r.admitted, r.stream, []byte("not TLS"), r.upstream) }()
	got := make([]byte, 7)
	if n, err := r.target.Read(got); err != nil || string(got[:n]) != "not TLS" {
		t.Errorf("the target got %q, %v", got[:n], err)
	}
	_, _ = r.target.CloseWrite(), r.client.CloseWrite()
	if out := <-ended; out.Cause != CauseFinished || out.Sent != 7 {
		t.Errorf("it ended as %+v", out)
	}
}
