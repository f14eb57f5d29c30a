package proxy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/policy"
)

// kinds are the client's sides that there are.
var kinds = map[string][]rigOption{"plain": nil, "tls": {onTLS}}

func eachKind(t *testing.T, f func(t *testing.T, options ...rigOption)) {
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
			eachKind(t, func(t *testing.T, options ...rigOption) {
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
	eachKind(t, func(t *testing.T, options ...rigOption) {
		r := openTunnel(t, append(options, withEarly([]byte("early ")))...)
		write(t, r.client, []byte("late"))
		wantRead(t, r.target, "early late")
		_ = r.client.CloseWrite()
		_ = r.target.CloseWrite()
		r.wantOutcome(CauseFinished, 10, 0)
	})
}

// TestServerFirst: with protocol any, nobody waits for a hello.
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
	eachKind(t, func(t *testing.T, options ...rigOption) {
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
	eachKind(t, func(t *testing.T, options ...rigOption) {
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

// TestAnswerBeforeReset: a server that answers, closes with bytes unread and so
// resets has still answered.
func TestAnswerBeforeReset(t *testing.T) {
	r := newRig(t)
	_ = tcpOf(r.client).SetReadBuffer(16 << 10)
	r.start()
	const size = 192 << 10
	go func() {
		write(t, r.target, make([]byte, size))
		until(t, "the answer is out", func() bool { return undelivered(r.target) == 0 })
		reset(t, r.target)
	}()
	until(t, "the tunnel noticed", func() bool { return r.tracker.Len() == 1 && r.w.mustReceived(r.tracker) == size })
	got, err := io.Copy(io.Discard, r.client)
	if got != size || err == nil {
		t.Errorf("read %d of %d bytes, then %v; want all, then a reset", got, size, err)
	}
	r.wantOutcome(CauseTargetClosed, 0, size)
}

func (w *world) mustReceived(tr *Tracker) int64 {
	if infos := tr.Tunnels(); len(infos) == 1 {
		return infos[0].Received
	}
	return -1
}

// TestTargetStopsListening: the target answers and ends, and then resets what
// the client goes on sending. The answer arrives.
func TestTargetStopsListening(t *testing.T) {
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

// every calls f at a pace until it says no.
func every(pace time.Duration, f func() bool) {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for f() {
		<-tick.C
	}
}

func TestIdleTimeoutIsOneForBothDirections(t *testing.T) {
	for name, talker := range map[string]func(*rig) (from, to Stream){
		"only the target talks": func(r *rig) (Stream, Stream) { return r.target, r.client },
		"only the client talks": func(r *rig) (Stream, Stream) { return r.client, r.target },
	} {
		t.Run(name, func(t *testing.T) {
			const idle = 200 * time.Millisecond
			r := openTunnel(t, withConfig(TunnelConfig{IdleTimeout: idle}))
			from, to := talker(r)
			n := 0
			every(idle/10, func() bool {
				write(t, from, []byte{1})
				n++
				return n < 40 && !t.Failed()
			})
			if _, err := io.ReadFull(to, make([]byte, n)); err != nil {
				t.Fatal(err)
			}
			wantReset(t, to)
			o := r.outcome()
			if o.Cause != CauseIdle || o.Sent+o.Received != 40 {
				t.Errorf("%+v", o)
			}
		})
	}
}

func TestTimeLimits(t *testing.T) {
	const short = 60 * time.Millisecond
	for name, test := range map[string]struct {
		option rigOption
		half   bool
		want   Cause
	}{
		"idle":                      {withConfig(TunnelConfig{IdleTimeout: short}), false, CauseIdle},
		"idle, by the decision":     {withLimits(policy.Limits{Idle: short}), false, CauseIdle},
		"lifetime":                  {withConfig(TunnelConfig{MaxLifetime: short}), false, CauseLifetime},
		"lifetime, by the decision": {withLimits(policy.Limits{Lifetime: short}), false, CauseLifetime},
		"expired":                   {withDecision(func(d *policy.Decision) { d.Expires = time.Now().Add(short) }), false, CauseLifetime},
		"half-closed":               {withConfig(TunnelConfig{HalfClosed: short}), true, CauseHalfClosed},
	} {
		t.Run(name, func(t *testing.T) {
			r := openTunnel(t, test.option)
			if test.half {
				_ = r.client.CloseWrite()
				wantEOF(t, r.target)
			} else {
				wantReset(t, r.target)
			}
			wantReset(t, r.client)
			r.wantOutcome(test.want, 0, 0)
		})
	}
	t.Run("a decision cannot be laxer", func(t *testing.T) {
		r := openTunnel(t, withConfig(TunnelConfig{IdleTimeout: short}), withLimits(policy.Limits{Idle: time.Hour, Lifetime: time.Hour}))
		r.wantOutcome(CauseIdle, 0, 0)
	})
	t.Run("lifetime while bytes flow", func(t *testing.T) {
		r := openTunnel(t, withConfig(TunnelConfig{MaxLifetime: 2 * short}))
		go func() { _, _ = io.Copy(io.Discard, r.target) }()
		for {
			if _, err := r.client.Write(make([]byte, 64<<10)); err != nil {
				break
			}
		}
		if o := r.outcome(); o.Cause != CauseLifetime || o.Sent == 0 {
			t.Errorf("%+v", o)
		}
	})
	t.Run("silent while we write", func(t *testing.T) {
		// The target reads nothing: what the kernel holds for it is no activity.
		r := openTunnel(t, withConfig(TunnelConfig{IdleTimeout: short}))
		for {
			if _, err := r.client.Write(make([]byte, 64<<10)); err != nil {
				break
			}
		}
		if o := r.outcome(); o.Cause != CauseIdle {
			t.Errorf("%+v", o)
		}
	})
}

// TestSlowReaderGetsItAll: a target sends megabytes and ends. They are in the
// kernel long before a slow client has them, and no timer may throw them away.
func TestSlowReaderGetsItAll(t *testing.T) {
	r := newRig(t, withConfig(TunnelConfig{HalfClosed: 150 * time.Millisecond}))
	_ = tcpOf(r.client).SetReadBuffer(32 << 10)
	r.start()
	const size = 2 << 20
	write(t, r.target, make([]byte, size))
	_ = r.target.CloseWrite()
	var got int
	var failed error
	buf := make([]byte, 40<<10)
	every(10*time.Millisecond, func() bool {
		var n int
		n, failed = io.ReadFull(r.client, buf)
		got += n
		return failed == nil
	})
	if got != size || failed != io.ErrUnexpectedEOF && failed != io.EOF {
		t.Errorf("got %d of %d bytes, then %v", got, size, failed)
	}
	_ = r.client.CloseWrite()
	r.wantOutcome(CauseFinished, 0, size)
}

func TestByteLimits(t *testing.T) {
	eachKind(t, func(t *testing.T, options ...rigOption) {
		for _, limit := range []int{1, 5, 32 << 10, 32<<10 + 1, 3_000_000} {
			for _, more := range []int{0, 1, 100_000} {
				t.Run("", func(t *testing.T) {
					checkLimit(t, limit, more, true, options)
					checkLimit(t, limit, more, false, options)
				})
			}
		}
	})
}

func checkLimit(t *testing.T, limit, more int, up bool, options []rigOption) {
	limits, cause := policy.Limits{Received: int64(limit)}, CauseReceivedLimit
	if up {
		limits, cause = policy.Limits{Sent: int64(limit)}, CauseSentLimit
	}
	r := openTunnel(t, append(options, withLimits(limits))...)
	var from, to Stream = r.target, r.client
	if up {
		from, to = r.client, r.target
	}
	go func() {
		_, _ = from.Write(make([]byte, limit+more))
		_ = from.CloseWrite()
	}()
	got, _ := io.Copy(io.Discard, to)
	_ = to.CloseWrite()
	if more == 0 {
		cause = CauseFinished
	}
	// A cut may take with it what had not arrived yet, but nothing too much passes.
	if got > int64(limit) || more == 0 && got != int64(limit) {
		t.Errorf("limit %d, %d more: %d bytes passed", limit, more, got)
	}
	o := r.outcome()
	if o.Cause != cause || o.Sent+o.Received != int64(limit) {
		t.Errorf("limit %d, %d more: %+v", limit, more, o)
	}
}

func TestByteLimitOfEarlyBytes(t *testing.T) {
	for early, want := range map[string]Cause{"12345": CauseFinished, "123456": CauseSentLimit} {
		r := openTunnel(t, withEarly([]byte(early)), withLimits(policy.Limits{Sent: 5}))
		_ = r.client.CloseWrite()
		got, _ := io.ReadAll(r.target)
		_ = r.target.Close()
		if o := r.outcome(); o.Cause != want || o.Sent != 5 || len(got) > 5 {
			t.Errorf("%d early bytes: %+v", len(early), o)
		}
	}
}

func TestTracker(t *testing.T) {
	tr := NewTracker(TunnelConfig{})
	if tr.Drain(t.Context()) != 0 || tr.Len() != 0 || tr.Close(CauseOperator, nil) != 0 {
		t.Error("an empty tracker has tunnels")
	}
	tr = NewTracker(TunnelConfig{})
	a, b := openTunnel(t, withTracker(tr)), openTunnel(t, withTracker(tr))
	for _, r := range []*rig{a, b} {
		write(t, r.client, []byte("question"))
		wantRead(t, r.target, "question")
		write(t, r.target, []byte("answer"))
		wantRead(t, r.client, "answer")
	}
	until(t, "the last byte is counted", func() bool { return tr.Tunnels()[0].Received == 6 && tr.Tunnels()[1].Received == 6 })
	infos := tr.Tunnels()
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
	until(t, "one is left", func() bool { return tr.Len() == 1 })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if n := tr.Drain(ctx); n != 1 {
		t.Errorf("drained %d", n)
	}
	// When Drain is back, the end is on record.
	if events := b.w.events(); len(events) != 2 || events[1].Cause != string(CauseShutdown) {
		t.Errorf("recorded %+v", events)
	}
	b.wantOutcome(CauseShutdown, 8, 6)
	late := openTunnel(t, withTracker(tr))
	late.wantOutcome(CauseShutdown, 0, 0)
}

// TestOpenUntilRecorded: a tunnel whose end is not on record yet is not over for
// whoever drains the tracker, since the log closes next.
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
	until(t, "it is open", func() bool { return r.tracker.Len() == 1 })
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

// TestStoppedBeforeItStarts: whoever stops tunnels also stops one whose
// goroutine has only just begun.
func TestStoppedBeforeItStarts(t *testing.T) {
	for _, option := range []rigOption{checked, func(*rig) {}} {
		r := newRig(t, option, withConfig(TunnelConfig{HelloTimeout: time.Hour}))
		tun := newTunnel(r.tracker.config, r.admitted, r.stream, nil, r.upstream)
		tun.stop(CauseOperator)
		if o := tun.run(); o.Cause != CauseOperator {
			t.Errorf("%+v", o)
		}
		r.admitted.Close(Outcome{})
		_, _ = tcpOf(r.client).Close(), r.target.Close()
	}
}

// TestBrokenIsNotPassedOnAsAnEnd: once a tunnel is broken, an end that one side
// shows, since the kernel reports a reset only once, is not one to pass on.
func TestBrokenIsNotPassedOnAsAnEnd(t *testing.T) {
	r := newRig(t)
	tun := newTunnel(r.tracker.config, r.admitted, r.stream, nil, r.upstream)
	tun.startWatch()
	tun.stop(CauseClientClosed)
	tun.passOnEnd(func() error {
		t.Error("the end was passed on")
		return nil
	})
	tun.close()
	wantReset(t, r.target)
	_, _ = r.client.Close(), r.target.Close()
}
