package proxy

import (
	"io"
	"runtime"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/proxytest"
	"github.com/sallyport/sallyport/policy"
)

// every calls f at a pace until it returns false.
func every(pace time.Duration, f func() bool) {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for f() {
		<-tick.C
	}
}

// TestIdleTimeoutIsOneForBothDirections: bytes in one direction keep the tunnel open for
// longer than the idle timeout.
func TestIdleTimeoutIsOneForBothDirections(t *testing.T) {
	for name, talker := range map[string]func(*tunnelEnv) (from, to Stream){
		"only the target talks": func(r *tunnelEnv) (Stream, Stream) { return r.target, r.client },
		"only the client talks": func(r *tunnelEnv) (Stream, Stream) { return r.client, r.target },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// A pause of the machine is far shorter than the timeout.
			const idle, writes = time.Second, 30
			r := openTunnel(t, withConfig(TunnelConfig{IdleTimeout: idle}))
			from, to := talker(r)
			n := 0
			every(idle/20, func() bool {
				write(t, from, []byte{1})
				n++
				return n < writes && !t.Failed()
			})
			if _, err := io.ReadFull(to, make([]byte, n)); err != nil {
				t.Fatal(err)
			}
			wantReset(t, to)
			o := r.outcome()
			if o.Cause != CauseIdle || o.Sent+o.Received != writes {
				t.Errorf("%+v", o)
			}
		})
	}
}

func TestTimeLimits(t *testing.T) {
	const short = 60 * time.Millisecond
	for name, test := range map[string]struct {
		option tunnelOption
		half   bool
		want   Cause
	}{
		"idle":                      {withConfig(TunnelConfig{IdleTimeout: short}), false, CauseIdle},
		"idle, by the decision":     {withLimits(policy.Limits{Idle: short}), false, CauseIdle},
		"lifetime":                  {withConfig(TunnelConfig{MaxLifetime: short}), false, CauseLifetime},
		"lifetime, by the decision": {withLimits(policy.Limits{Lifetime: short}), false, CauseLifetime},
		"half-closed":               {withConfig(TunnelConfig{HalfClosed: short}), true, CauseHalfClosed},
		// Long enough that the tunnel opens first.
		"expired": {withDecision(func(d *policy.Decision) { d.Expires = time.Now().Add(2 * time.Second) }), false, CauseLifetime},
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
		r := openTunnel(t, withConfig(TunnelConfig{MaxLifetime: time.Second}))
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
		// The target reads nothing: what the kernel holds for it is not an activity.
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

// TestSlowReaderGetsItAll: a target sends megabytes and ends. They are in the kernel long
// before a slow client has them. However long the client takes, the timer does not discard
// them as long as the kernel delivers some from one check to the next.
func TestSlowReaderGetsItAll(t *testing.T) {
	const timeout = time.Hour // passes without a clock
	r := newTunnelEnv(t, withConfig(TunnelConfig{HalfClosed: timeout}))
	_ = tcpOf(r.client).SetReadBuffer(32 << 10)
	client := tcpOf(r.stream)
	r.start()
	const size = 2 << 20
	write(t, r.target, make([]byte, size))
	_ = r.target.CloseWrite()
	got, buf := 0, make([]byte, 32<<10)
	read := func() {
		n, err := r.client.Read(buf)
		if got += n; err != nil {
			t.Fatalf("got %d of %d bytes, then %v", got, size, err)
		}
	}
	var tun *tunnel
	proxytest.Eventually(t, "the target's direction has ended", func() bool {
		r.tracker.mu.Lock()
		for tun = range r.tracker.open {
		}
		r.tracker.mu.Unlock()
		if ended := tun != nil && tun.halfClosed.Load(); ended || got >= size/2 {
			return ended
		}
		read() // the kernel may not hold all of it
		return false
	})
	checks := 0
	const window = 128 << 10 // more than the client's kernel accepts by itself
	for queued := undelivered(client); queued > window; {
		read()
		now := undelivered(client)
		if now == queued {
			continue // the client's kernel accepts more only after some reads
		}
		if queued = now; queued > window {
			tun.lastActive.Store(int64(time.Since(tun.began) - 2*timeout))
			tun.check()
			checks++
		}
	}
	n, err := io.Copy(io.Discard, r.client)
	if got += int(n); got != size || err != nil {
		t.Errorf("got %d of %d bytes, then %v", got, size, err)
	}
	if checks == 0 && runtime.GOOS == "linux" {
		t.Error("nothing was queued for the client")
	}
	_ = r.client.CloseWrite()
	r.wantOutcome(CauseFinished, 0, size)
}

func TestByteLimits(t *testing.T) {
	eachKind(t, func(t *testing.T, options ...tunnelOption) {
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

func checkLimit(t *testing.T, limit, more int, up bool, options []tunnelOption) {
	limits, cause := policy.Limits{Received: int64(limit)}, CauseBytesReceivedLimit
	if up {
		limits, cause = policy.Limits{Sent: int64(limit)}, CauseBytesSentLimit
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
	for early, want := range map[string]Cause{"12345": CauseFinished, "123456": CauseBytesSentLimit} {
		r := openTunnel(t, withEarly([]byte(early)), withLimits(policy.Limits{Sent: 5}))
		_ = r.client.CloseWrite()
		got, _ := io.ReadAll(r.target)
		_ = r.target.Close()
		if o := r.outcome(); o.Cause != want || o.Sent != 5 || len(got) > 5 {
			t.Errorf("%d early bytes: %+v", len(early), o)
		}
	}
}
