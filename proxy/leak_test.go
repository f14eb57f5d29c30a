package proxy

import (
	"bytes"
	"io"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/proxytest"
)

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// TestTunnelsLeakNothing runs two thousand tunnels, eight at a time, that end in all
// the ways there are, and counts what they leave.
func TestTunnelsLeakNothing(t *testing.T) {
	short := TunnelConfig{IdleTimeout: 30 * time.Millisecond, HalfClosed: 20 * time.Millisecond, HelloTimeout: 20 * time.Millisecond}
	endings := []func(*tunnelEnv){
		func(r *tunnelEnv) { _, _ = r.client.CloseWrite(), r.target.CloseWrite() },
		func(r *tunnelEnv) { reset(t, r.client) },
		func(r *tunnelEnv) { reset(t, r.target) },
		func(r *tunnelEnv) { _ = r.client.Close() },
		func(r *tunnelEnv) { _ = r.target.Close() },
		func(r *tunnelEnv) { _ = r.client.CloseWrite() }, // and then silence
		func(r *tunnelEnv) {},                            // silence
		func(r *tunnelEnv) { r.tracker.Close(CauseOperator, nil) },
		func(r *tunnelEnv) { // in the middle of a stream
			_ = r.client.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
			_, _ = r.client.Write(make([]byte, 8<<20))
			reset(t, r.client)
		},
		func(r *tunnelEnv) { // also the other way
			_ = r.target.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
			_, _ = r.target.Write(make([]byte, 8<<20))
			r.tracker.Close(CauseOperator, nil)
		},
	}
	front, back := proxytest.Listen(t, "127.0.0.1:0"), proxytest.Listen(t, "127.0.0.1:0")
	var dialling sync.Mutex
	goroutines, fds := runtime.NumGoroutine(), descriptors(t)
	began := time.Now()
	const total, atOnce = 2000, 8
	var wg sync.WaitGroup
	work := make(chan int)
	for range atOnce {
		wg.Go(func() {
			for i := range work {
				options := []tunnelOption{withConfig(short)}
				if i%7 == 0 {
					options = append(options, onTLS)
				}
				if i%11 == 0 {
					options = append(options, checked)
				}
				dialling.Lock()
				r := newTunnelEnvOn(t, front, back, options...)
				dialling.Unlock()
				go func() { r.ended <- r.tracker.Run(r.admitted, r.stream, r.early, r.upstream) }()
				proxytest.Eventually(t, "it is open", func() bool { return r.tracker.Len() == 1 || len(r.ended) == 1 })
				ending := endings[i%(len(endings)-2)]
				if i%50 == 0 {
					// These wait for a peer that may yet take what is on its way.
					ending = endings[len(endings)-1-i/50%2]
				}
				ending(r)
				o := <-r.ended
				if o.Cause == CauseInternal || r.tracker.Len() != 0 {
					t.Errorf("tunnel %d: %+v", i, o)
				}
				_, _ = tcpOf(r.client).Close(), r.target.Close()
			}
		})
	}
	for i := range total {
		work <- i
	}
	close(work)
	wg.Wait()
	t.Logf("%d tunnels in %s", total, time.Since(began))
	proxytest.Eventually(t, "goroutines are gone", func() bool { return runtime.NumGoroutine() <= goroutines })
	proxytest.Eventually(t, "descriptors are closed", func() bool { return descriptors(t) <= fds })
}

// TestPipesAreNotShared breaks tunnels off while bytes stand in their
// pipes, and then looks for those bytes in the tunnels that come after.
func TestPipesAreNotShared(t *testing.T) {
	keep := openTunnel(t) // while one is open, idle pipes are kept for the next
	secret, plain := bytes.Repeat([]byte{'S'}, 4<<20), bytes.Repeat([]byte{'p'}, 2<<20)
	for i := range 40 {
		r := openTunnel(t, withTracker(keep.tracker))
		_ = r.client.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
		_, _ = r.client.Write(secret) // not read: it piles up, the last of it in the pipe
		switch i % 3 {
		case 0:
			keep.tracker.Close(CauseOperator, func(a *Admission) bool { return a == r.admitted })
		case 1:
			reset(t, r.target)
		default:
			reset(t, r.client)
			keep.tracker.Close(CauseOperator, func(a *Admission) bool { return a == r.admitted })
		}
		<-r.ended
		_, _ = r.client.Close(), r.target.Close()

		next := openTunnel(t, withTracker(keep.tracker))
		go func() {
			write(t, next.client, plain)
			_ = next.client.CloseWrite()
		}()
		got, err := io.ReadAll(next.target)
		if err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("%d bytes, %v, of another tunnel: %v", len(got), err, bytes.Contains(got, []byte{'S'}))
		}
		_ = next.target.Close()
		<-next.ended
	}
}
