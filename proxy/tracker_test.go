package proxy

import (
	"context"
	"testing"

	"github.com/sallyport/sallyport/internal/proxytest"
)

func TestTracker(t *testing.T) {
	tr := NewTracker(TunnelConfig{})
	if tr.Drain(t.Context()) != 0 || tr.Len() != 0 || tr.Close(CauseOperator, nil) != 0 {
		t.Error("an empty tracker has tunnels")
	}
	tr = NewTracker(TunnelConfig{})
	a, b := openTunnel(t, withTracker(tr)), openTunnel(t, withTracker(tr))
	for _, r := range []*tunnelEnv{a, b} {
		write(t, r.client, []byte("question"))
		wantRead(t, r.target, "question")
		write(t, r.target, []byte("answer"))
		wantRead(t, r.client, "answer")
	}
	// A byte is counted once it is through, and the peer may have it before.
	var infos []TunnelInfo
	proxytest.Eventually(t, "every byte is counted", func() bool {
		infos = tr.Tunnels()
		return infos[0].Sent == 8 && infos[0].Received == 6 && infos[1].Sent == 8 && infos[1].Received == 6
	})
	if len(infos) != 2 || tr.Len() != 2 || infos[0].Admission != a.admitted || infos[1].Admission != b.admitted ||
		infos[0].Sent != 8 || infos[0].Received != 6 || infos[0].Since != a.admitted.Admitted {
		t.Errorf("tunnels %+v", infos)
	}
	if n := tr.Close(CauseOperator, func(x *Admission) bool { return x == a.admitted }); n != 1 {
		t.Errorf("closed %d", n)
	}
	wantReset(t, a.client)
	wantReset(t, a.target)
	a.wantOutcome(CauseOperator, 8, 6)
	proxytest.Eventually(t, "one is left", func() bool { return tr.Len() == 1 })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if n := tr.Drain(ctx); n != 1 {
		t.Errorf("drained %d", n)
	}
	// When Drain is back, the end is recorded.
	if events := b.w.events(); len(events) != 2 || events[1].CloseReason != string(CauseShutdown) {
		t.Errorf("recorded %+v", events)
	}
	b.wantOutcome(CauseShutdown, 8, 6)
	late := openTunnel(t, withTracker(tr))
	late.wantOutcome(CauseShutdown, 0, 0)
}

// TestOpenUntilRecorded: Drain waits for a tunnel until its end is recorded, since the
// log closes next.
func TestOpenUntilRecorded(t *testing.T) {
	r := openTunnel(t)
	r.w.mu.Lock()
	r.w.hold = make(chan struct{})
	r.w.mu.Unlock()
	_, _ = r.client.Close(), r.target.Close()
	r.w.hold <- struct{}{} // the closing event is being written
	if r.tracker.Len() != 1 {
		t.Error("the tunnel is off the list before its end is on record")
	}
	r.w.hold <- struct{}{}
	if r.tracker.Drain(t.Context()); len(r.w.events()) != 2 {
		t.Error("drained before the end is on record")
	}
	r.outcome()
}

func TestDrainWaits(t *testing.T) {
	r := openTunnel(t)
	proxytest.Eventually(t, "it is open", func() bool { return r.tracker.Len() == 1 })
	drained := make(chan int)
	go func() { drained <- r.tracker.Drain(t.Context()) }()
	write(t, r.client, []byte("still"))
	wantRead(t, r.target, "still")
	_ = r.client.CloseWrite()
	_ = r.target.CloseWrite()
	if n := <-drained; n != 0 {
		t.Errorf("drain closed %d", n)
	}
	r.wantOutcome(CauseFinished, 5, 0)
}
