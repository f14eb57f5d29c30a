package upstream

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// pipeStream is one end of a pipe in memory.
type pipeStream struct{ net.Conn }

func (p pipeStream) CloseWrite() error { return p.Close() }

// testPool returns a pool whose connections are pipes, and the count of its dials.
func testPool(t *testing.T, maximum int) (*pool, *atomic.Int32) {
	t.Helper()
	dials := &atomic.Int32{}
	p := newPool(context.Background(), maximum, time.Minute, func(context.Context) (*conn, error) {
		dials.Add(1)
		own, peer := net.Pipe()
		t.Cleanup(func() { _ = peer.Close() })
		return &conn{Stream: pipeStream{own}, proxy: &proxy{}}, nil
	}, func(*proxy) bool { return true })
	t.Cleanup(p.close)
	return p, dials
}

// TestRefillFollowsTheResponse checks that the pool opens no connection while the tool
// receives the response of its tunnel, and opens the connections of several tunnels
// together.
func TestRefillFollowsTheResponse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, dials := testPool(t, 8)
		p.refill()
		synctest.Wait()
		for range 3 {
			c, err := p.get(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			p.refillLater()
		}
		synctest.Wait()
		if n := dials.Load(); n != 3 {
			t.Fatalf("%d dials for three tunnels, want 3: the pool dials before the response is delivered", n)
		}
		time.Sleep(refillDelay)
		synctest.Wait()
		if n, ready := dials.Load(), p.len(); n != 6 || ready != 3 {
			t.Fatalf("%d dials, %d ready, want 6 and 3: one ready connection for each tunnel", n, ready)
		}
	})
}

// TestRefillEndsWithThePool checks that a pool that is closed opens nothing later.
func TestRefillEndsWithThePool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, dials := testPool(t, 8)
		p.refillLater()
		p.close()
		time.Sleep(2 * refillDelay)
		p.refillLater()
		time.Sleep(2 * refillDelay)
		synctest.Wait()
		if n := dials.Load(); n != 0 {
			t.Fatalf("%d dials of a closed pool, want none", n)
		}
	})
}
