package proxy

import (
	"bytes"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/proxytest"
)

// kinds are the client's sides that there are.
var kinds = map[string][]tunnelOption{"plain": nil, "tls": {onTLS}}

func eachKind(t *testing.T, f func(t *testing.T, options ...tunnelOption)) {
	for name, options := range kinds {
		t.Run(name, func(t *testing.T) { f(t, options...) })
	}
}

func send(t testing.TB, w Stream, seed byte, total int, chunk func(*rand.Rand) int) [32]byte {
	rng := rand.New(rand.NewChaCha8([32]byte{seed}))
	h := sha256.New()
	buf := make([]byte, 2<<20)
	for total > 0 {
		b := buf[:min(total, chunk(rng))]
		for i := 0; i < len(b); i += 64 {
			b[i] = byte(rng.Uint32())
		}
		h.Write(b)
		write(t, w, b)
		total -= len(b)
	}
	if err := w.CloseWrite(); err != nil {
		t.Error(err)
	}
	return [32]byte(h.Sum(nil))
}

func receive(t testing.TB, r io.Reader) ([32]byte, int64) {
	h := sha256.New()
	n, err := io.Copy(h, r)
	if err != nil {
		t.Errorf("read: %v", err)
	}
	return [32]byte(h.Sum(nil)), n
}

// TestBytes sends much in both directions at once: small messages, which are
// copied, and streams, which are spliced, in turn.
func TestBytes(t *testing.T) {
	sizes := map[string]func(*rand.Rand) int{
		"any size": func(r *rand.Rand) int { return 1 + r.IntN(100_000) },
		"in turn": func(r *rand.Rand) int {
			if r.IntN(2) == 0 {
				return 1 + r.IntN(2000)
			}
			return 1<<20 + r.IntN(1<<20)
		},
	}
	for name, chunk := range sizes {
		t.Run(name, func(t *testing.T) {
			eachKind(t, func(t *testing.T, options ...tunnelOption) {
				const up, down = 52_428_800, 31_457_287
				r := openTunnel(t, options...)
				var sums [4][32]byte
				var counts [4]int64
				var wg sync.WaitGroup
				wg.Go(func() { sums[0] = send(t, r.client, 1, up, chunk) })
				wg.Go(func() { sums[1], counts[1] = receive(t, r.target) })
				wg.Go(func() { sums[2] = send(t, r.target, 2, down, chunk) })
				wg.Go(func() { sums[3], counts[3] = receive(t, r.client) })
				wg.Wait()
				if sums[0] != sums[1] || sums[2] != sums[3] || counts[1] != up || counts[3] != down {
					t.Errorf("bytes were changed or lost: %d of %d, %d of %d", counts[1], up, counts[3], down)
				}
				r.wantOutcome(CauseFinished, up, down)
			})
		})
	}
}

// TestBulkAndRoundTrips lets each stream pause for a round trip, so that a
// direction goes from copying to splicing and back many times.
func TestBulkAndRoundTrips(t *testing.T) {
	r := openTunnel(t)
	block := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	want := sha256.Sum256(block)
	done := make(chan struct{})
	go func() {
		defer close(done)
		got := make([]byte, len(block))
		for range 50 {
			if _, err := io.ReadFull(r.target, got); err != nil || sha256.Sum256(got) != want {
				t.Errorf("a block was changed: %v", err)
				return
			}
			write(t, r.target, []byte("ok"))
			wantRead(t, r.target, "next")
		}
		_ = r.target.CloseWrite()
	}()
	for range 50 {
		write(t, r.client, block)
		wantRead(t, r.client, "ok")
		write(t, r.client, []byte("next"))
	}
	<-done
	wantEOF(t, r.client)
	_ = r.client.CloseWrite()
	r.wantOutcome(CauseFinished, 50*(1<<20+4), 100)
}

func TestEarlyBytes(t *testing.T) {
	eachKind(t, func(t *testing.T, options ...tunnelOption) {
		r := openTunnel(t, append(options, withEarly([]byte("early ")))...)
		write(t, r.client, []byte("late"))
		wantRead(t, r.target, "early late")
		_ = r.client.CloseWrite()
		_ = r.target.CloseWrite()
		r.wantOutcome(CauseFinished, 10, 0)
	})
}

// TestServerFirst: with protocol any, the proxy does not wait for a ClientHello.
func TestServerFirst(t *testing.T) {
	r := openTunnel(t)
	write(t, r.target, []byte("SSH-2.0-x\r\n"))
	wantRead(t, r.client, "SSH-2.0-x\r\n")
	_ = r.target.Close()
	wantEOF(t, r.client)
	_ = r.client.Close()
	r.wantOutcome(CauseFinished, 0, 11)
}

func TestHalfClose(t *testing.T) {
	eachKind(t, func(t *testing.T, options ...tunnelOption) {
		t.Run("by the client", func(t *testing.T) {
			r := openTunnel(t, options...)
			write(t, r.client, []byte("question"))
			_ = r.client.CloseWrite()
			wantRead(t, r.target, "question")
			wantEOF(t, r.target)
			write(t, r.target, []byte("answer"))
			wantRead(t, r.client, "answer")
			_ = r.target.Close()
			wantEOF(t, r.client)
			r.wantOutcome(CauseFinished, 8, 6)
		})
		t.Run("by the target", func(t *testing.T) {
			r := openTunnel(t, options...)
			write(t, r.target, []byte("greeting"))
			_ = r.target.CloseWrite()
			wantRead(t, r.client, "greeting")
			wantEOF(t, r.client)
			write(t, r.client, []byte("upload"))
			wantRead(t, r.target, "upload")
			_ = r.client.Close()
			wantEOF(t, r.target)
			r.wantOutcome(CauseFinished, 6, 8)
		})
	})
}

func TestResets(t *testing.T) {
	eachKind(t, func(t *testing.T, options ...tunnelOption) {
		t.Run("by the client", func(t *testing.T) {
			r := openTunnel(t, options...)
			write(t, r.client, []byte("half a mess"))
			wantRead(t, r.target, "half a mess")
			reset(t, r.client)
			wantReset(t, r.target)
			if o := r.outcome(); o.Cause != CauseClientClosed || o.Sent != 11 {
				t.Errorf("%+v", o)
			}
		})
		t.Run("by the target", func(t *testing.T) {
			r := openTunnel(t, options...)
			write(t, r.target, []byte("half an ans"))
			wantRead(t, r.client, "half an ans")
			reset(t, r.target)
			wantReset(t, tcpOf(r.client))
			r.wantOutcome(CauseTargetClosed, 0, 11)
		})
	})
	t.Run("a TLS client that does not say goodbye", func(t *testing.T) {
		// crypto/tls takes a FIN between two records for an end, as most servers do.
		r := openTunnel(t, onTLS)
		write(t, r.client, []byte("all"))
		_ = tcpOf(r.client).Close()
		wantRead(t, r.target, "all")
		wantEOF(t, r.target)
		_ = r.target.Close()
		r.wantOutcome(CauseFinished, 3, 0)
	})
	t.Run("by the target while the client sends", func(t *testing.T) {
		r := openTunnel(t)
		reset(t, r.target)
		block := make([]byte, 1<<20)
		for {
			if _, err := r.client.Write(block); err != nil {
				break
			}
		}
		if o := r.outcome(); o.Cause != CauseTargetClosed {
			t.Errorf("%+v", o)
		}
	})
}

// TestResponseIsDeliveredBeforeTheReset: a server that answers, closes with bytes unread and so
// resets has still answered.
func TestResponseIsDeliveredBeforeTheReset(t *testing.T) {
	r := newTunnelEnv(t)
	_ = tcpOf(r.client).SetReadBuffer(16 << 10)
	r.start()
	const size = 192 << 10
	go func() {
		write(t, r.target, make([]byte, size))
		proxytest.Eventually(t, "the answer is out", func() bool { return undelivered(r.target) == 0 })
		reset(t, r.target)
	}()
	proxytest.Eventually(t, "the tunnel noticed", func() bool { return r.tracker.Len() == 1 && r.w.mustReceived(r.tracker) == size })
	got, err := io.Copy(io.Discard, r.client)
	if got != size || err == nil {
		t.Errorf("read %d of %d bytes, then %v; want all, then a reset", got, size, err)
	}
	r.wantOutcome(CauseTargetClosed, 0, size)
}

func (w *env) mustReceived(tr *Tracker) int64 {
	if infos := tr.Tunnels(); len(infos) == 1 {
		return infos[0].Received
	}
	return -1
}

// TestTargetClosesItsReadSide: the target answers and ends, and then resets what
// the client continues sending. The answer arrives.
func TestTargetClosesItsReadSide(t *testing.T) {
	r := openTunnel(t)
	write(t, r.target, []byte("413 too large"))
	_ = r.target.Close()
	stop := make(chan struct{})
	go func() {
		defer close(stop)
		for {
			if _, err := r.client.Write(make([]byte, 32<<10)); err != nil {
				return
			}
		}
	}()
	wantRead(t, r.client, "413 too large")
	if o := r.outcome(); o.Cause != CauseTargetClosed || o.Received != 13 {
		t.Errorf("%+v", o)
	}
	<-stop
}

// TestStoppedBeforeItStarts: closing tunnels also closes one whose goroutine has only
// just begun.
func TestStoppedBeforeItStarts(t *testing.T) {
	for _, option := range []tunnelOption{checked, func(*tunnelEnv) {}} {
		r := newTunnelEnv(t, option, withConfig(TunnelConfig{HelloTimeout: time.Hour}))
		tun := newTunnel(r.tracker.config, r.admitted, r.stream, nil, r.upstream)
		tun.stop(CauseOperator)
		if o := tun.run(); o.Cause != CauseOperator {
			t.Errorf("%+v", o)
		}
		r.admitted.Close(Outcome{})
		_, _ = tcpOf(r.client).Close(), r.target.Close()
	}
}

// TestResetIsNotForwardedAsEOF: once a tunnel is broken, an end that one side
// shows, since the kernel reports a reset only once, is not one to pass on.
func TestResetIsNotForwardedAsEOF(t *testing.T) {
	r := newTunnelEnv(t)
	tun := newTunnel(r.tracker.config, r.admitted, r.stream, nil, r.upstream)
	tun.startWatch()
	tun.stop(CauseClientClosed)
	tun.propagateEOF(func() error {
		t.Error("the end was passed on")
		return nil
	})
	tun.close()
	wantReset(t, r.target)
	_, _ = r.client.Close(), r.target.Close()
}
