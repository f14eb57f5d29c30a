package proxy

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/proxytest"
	"github.com/sallyport/sallyport/policy"
)

// reported puts the decision into report mode; the ClientHello is checked.
func reported(r *tunnelEnv) {
	r.w.decision.Protocol, r.w.decision.Mode = policy.ProtocolTLS, policy.Report
}

// byHost decides by the host of the target; other hosts get the env's decision.
type byHost map[string]policy.Decision

func (d byHost) with(w *env) Decider {
	return deciderFunc(func(ctx context.Context, r *policy.Request) (policy.Decision, error) {
		if own, ok := d[r.Target.Host]; ok {
			_, _ = w.Decide(ctx, r)
			return own, nil
		}
		return w.Decide(ctx, r)
	})
}

type deciderFunc func(context.Context, *policy.Request) (policy.Decision, error)

func (f deciderFunc) Decide(ctx context.Context, r *policy.Request) (policy.Decision, error) {
	return f(ctx, r)
}

// withHosts gives some hosts decisions of their own.
func withHosts(hosts byHost) tunnelOption {
	return func(r *tunnelEnv) { r.w.config = func(c *Config) { c.Decider = hosts.with(r.w) } }
}

// ends waits for the tunnel's end and returns the events behind the first decision.
func (r *tunnelEnv) ends() (Outcome, []audit.Event) {
	r.t.Helper()
	select {
	case o := <-r.ended:
		return o, r.w.events()[1:]
	case <-time.After(patience):
		r.t.Fatal("the tunnel does not end")
		return Outcome{}, nil
	}
}

// sequence lists the kinds and close reasons of events.
func sequence(events []audit.Event) string {
	var list []string
	for _, e := range events {
		s := string(e.Kind)
		if e.Verdict != "" {
			s += " " + e.Verdict
		}
		if e.CloseReason != "" {
			s += " " + e.CloseReason
		}
		list = append(list, s)
	}
	return strings.Join(list, ", ")
}

// TestReportModeBreaksNothing: what the check would close continues unchanged in both
// directions, after the event would_close.
func TestReportModeBreaksNothing(t *testing.T) {
	ech := extension(0xfe0d, []byte{0})
	for name, c := range map[string]struct{ in, want string }{
		"ECH":     {string(built(sni(targetName), ech)), "would_close hello_encrypted"},
		"no name": {string(clientHello("")), "would_close hello_missing"},
		"SSH":     {"SSH-2.0-OpenSSH_9.2\r\n", "would_close hello_invalid"},
		"zeros":   {strings.Repeat("\x00", 100), "would_close hello_invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			eachKind(t, func(t *testing.T, options ...tunnelOption) {
				r := openTunnel(t, append(options, reported)...)
				write(t, r.client, []byte(c.in))
				wantRead(t, r.target, c.in)
				if got := sequence(r.w.events()[1:]); got != c.want {
					t.Errorf("the target has the bytes, and the log has %q", got)
				}
				write(t, r.target, []byte("answer"))
				wantRead(t, r.client, "answer")
				_ = r.client.CloseWrite()
				wantEOF(t, r.target)
				_ = r.target.Close()
				o, events := r.ends()
				if o.Cause != CauseFinished || o.Sent != int64(len(c.in)) || o.Received != 6 {
					t.Errorf("ended with %+v", o)
				}
				if got := sequence(events); got != c.want+", tunnel_closed finished" {
					t.Errorf("the log has %q", got)
				}
				if e := events[0]; e.DecisionID != r.admitted.ID || e.Host != targetName || e.StepUUID == "" || e.Mode != "report" {
					t.Errorf("the event is %+v", e)
				}
			})
		})
	}
}

// TestReportModeDoesNotDelayServers: a server that sends first is relayed at once, and the
// client's bytes are checked whenever they come.
func TestReportModeDoesNotDelayServers(t *testing.T) {
	eachKind(t, func(t *testing.T, options ...tunnelOption) {
		r := openTunnel(t, append(options, reported, withConfig(TunnelConfig{HelloTimeout: time.Hour}))...)
		write(t, r.target, []byte("220 ready\r\n"))
		wantRead(t, r.client, "220 ready\r\n")
		write(t, r.client, []byte("GET / HTTP/1.1\r\n"))
		wantRead(t, r.target, "GET / HTTP/1.1\r\n") // behind the server's bytes it is not a request of its own
		_ = r.target.Close()
		_ = r.client.Close()
		if _, events := r.ends(); !strings.HasPrefix(sequence(events), "would_close hello_invalid") {
			t.Errorf("the log has %q", sequence(events))
		}
	})
}

// TestReportModeAfterTheHelloTimeout: a silent client is recorded, and its first bytes are
// checked later.
func TestReportModeAfterTheHelloTimeout(t *testing.T) {
	denied := byHost{"evil.example": {Reason: policy.PolicyDenied, Rule: "never"}}
	r := openTunnel(t, reported, withHosts(denied), withConfig(TunnelConfig{HelloTimeout: 10 * time.Millisecond}))
	proxytest.Eventually(t, "the timeout is recorded", func() bool { return sequence(r.w.events()[1:]) == "would_close hello_timeout" })
	write(t, r.client, clientHello("evil.example"))
	if got, _ := io.ReadAll(r.target); len(got) > 0 {
		t.Errorf("the target read %d bytes", len(got))
	}
	if o, _ := r.ends(); o.Cause != CauseHelloMismatch {
		t.Errorf("ended with %+v", o)
	}
}

// TestUnreadableHelloIsClosedInReportMode: a denied host could be in what begins as a
// ClientHello and cannot be read.
func TestUnreadableHelloIsClosedInReportMode(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		want Cause
	}{
		"two names":          {string(built(sni(targetName, "evil.example"))), CauseHelloInvalid},
		"two extensions":     {string(built(sni(targetName), sni("evil.example"))), CauseHelloInvalid},
		"too large":          {string([]byte{22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff}), CauseHelloTooLarge},
		"half a hello":       {string(clientHello("evil.example")[:50]), CauseHelloTimeout},
		"a name with a NUL":  {string(built(sni("evil.example\x00"))), CauseHelloMismatch},
		"an address as name": {string(built(sni("198.51.100.7"))), CauseHelloMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			r := openTunnel(t, reported, withConfig(TunnelConfig{HelloTimeout: 100 * time.Millisecond}))
			write(t, r.client, []byte(c.in))
			if got, _ := io.ReadAll(r.target); len(got) > 0 {
				t.Errorf("the target read %d bytes", len(got))
			}
			if o, events := r.ends(); o.Cause != c.want || sequence(events) != "tunnel_closed "+string(c.want) {
				t.Errorf("ended with %+v; the log has %q", o, sequence(events))
			}
		})
	}
}

// TestServerNameIsDecided: a ClientHello for another host has a decision of its own.
func TestServerNameIsDecided(t *testing.T) {
	report := policy.Decision{Verdict: policy.Allow, Mode: policy.Report, WouldDeny: true, Reason: policy.NoRuleMatched, Rule: "observed"}
	for name, c := range map[string]struct {
		decision policy.Decision
		ech      bool
		want     string // the events
	}{
		"allowed by report mode": {report, false, "decision allow, would_close hello_mismatch, tunnel_closed finished, tunnel_closed finished"},
		"in an encrypted hello":  {report, true, "decision allow, would_close hello_mismatch, tunnel_closed finished, tunnel_closed finished"},
		"denied in report mode":  {policy.Decision{Reason: policy.PolicyDenied, Rule: "never"}, false, "decision deny, tunnel_closed hello_mismatch"},
		"denied, encrypted":      {policy.Decision{Reason: policy.PolicyDenied, Rule: "never"}, true, "decision deny, tunnel_closed hello_mismatch"},
		"not reported":           {policy.Decision{Reason: policy.NoRuleMatched}, false, "decision deny, tunnel_closed hello_mismatch"},
		"undecided":              {policy.Decision{Reason: policy.PolicyError}, false, "decision deny, tunnel_closed hello_mismatch"},
	} {
		t.Run(name, func(t *testing.T) {
			r := openTunnel(t, reported, withHosts(byHost{"other.example": c.decision}))
			hello := built(sni("Other.Example."))
			if c.ech {
				hello = built(extension(0xfe0d, nil), sni("Other.Example."))
			}
			write(t, r.client, hello)
			_ = r.client.CloseWrite()
			go func() { _, _ = io.Copy(io.Discard, r.client) }()
			got, _ := io.ReadAll(r.target)
			if allowed := c.decision.Verdict == policy.Allow; (len(got) > 0) != allowed {
				t.Errorf("the target read %d bytes", len(got))
			}
			_ = r.target.Close()
			_, events := r.ends()
			if sequence(events) != c.want {
				t.Errorf("the log has %q", sequence(events))
			}
			further := events[0]
			if further.Host != "other.example" || further.Port != r.admitted.Target.Port || further.Status != 0 || further.DecisionID == r.admitted.ID ||
				!hasAttribute(&further, "tunnel", r.admitted.ID) || further.StepUUID == "" {
				t.Errorf("the decision is %+v", further)
			}
			if c.decision.Verdict == policy.Allow && !hasAttribute(&events[1], "further_decision", further.DecisionID) {
				t.Errorf("would_close is %+v", events[1])
			}
		})
	}
}

func hasAttribute(e *audit.Event, name, value string) bool {
	for _, a := range e.Attributes {
		if a.Name == name && a.Value == value {
			return true
		}
	}
	return false
}

// TestWouldCloseIsDurableFirst: what cannot be recorded does not continue.
func TestWouldCloseIsDurableFirst(t *testing.T) {
	r := newTunnelEnv(t, reported)
	r.w.mu.Lock()
	r.w.recordErr = errors.New("unavailable")
	r.w.mu.Unlock()
	r.start()
	write(t, r.client, clientHello(""))
	if got, _ := io.ReadAll(r.target); len(got) > 0 {
		t.Errorf("the target read %d bytes", len(got))
	}
	if o, _ := r.ends(); o.Cause != CauseAuditUnavailable {
		t.Errorf("ended with %+v", o)
	}
}

// TestRequestInReportMode: a plain request in a tunnel has its own decision in report mode
// too, and the client's connection is open for it.
func TestRequestInReportMode(t *testing.T) {
	r := newTunnelEnv(t, reported)
	type ended struct {
		out     Outcome
		request []byte
	}
	done := make(chan ended, 1)
	go func() {
		out, request := r.tracker.RunConnect(r.admitted, r.stream, nil, r.upstream, nil)
		done <- ended{out, request}
	}()
	const in = "GET / HTTP/1.1\r\n"
	write(t, r.client, []byte(in))
	e := <-done
	if e.out.Cause != CauseHTTPRequest || string(e.request) != in {
		t.Fatalf("ended with %+v, %q", e.out, e.request)
	}
	write(t, r.stream, []byte("HTTP/1.1 200 OK\r\n"))
	wantRead(t, r.client, "HTTP/1.1 200 OK\r\n")
	_ = r.stream.Close()
}

// TestRelaxations: ech and no_sni accept what they name, and nothing else.
func TestRelaxations(t *testing.T) {
	ech := extension(0xfe0d, []byte{0})
	relax := func(ech, noSNI bool) tunnelOption {
		return withDecision(func(d *policy.Decision) { d.ECH, d.NoSNI = ech, noSNI })
	}
	for name, c := range map[string]struct {
		ech, noSNI bool
		in         []byte
		want       Cause // "": accepted
	}{
		"ech accepts the extension":           {true, false, built(sni(targetName), ech), ""},
		"ech requires the outer name":         {true, false, built(sni("other.example"), ech), CauseHelloMismatch},
		"ech requires an outer name":          {true, true, built(ech), CauseHelloMissing},
		"ech accepts no absence":              {true, false, clientHello(""), CauseHelloMissing},
		"ech accepts no other name":           {true, false, clientHello("other.example"), CauseHelloMismatch},
		"no_sni accepts absence":              {false, true, clientHello(""), ""},
		"no_sni accepts the target":           {false, true, clientHello(targetName), ""},
		"no_sni accepts no other name":        {false, true, clientHello("other.example"), CauseHelloMismatch},
		"no_sni accepts no encrypted name":    {false, true, built(sni(targetName), ech), CauseHelloEncrypted},
		"no_sni accepts no other protocol":    {false, true, []byte("SSH-2.0-x\r\n"), CauseHelloInvalid},
		"ech and no_sni accept no other name": {true, true, built(sni("other.example"), ech), CauseHelloMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			r := openTunnel(t, checked, relax(c.ech, c.noSNI))
			write(t, r.client, c.in)
			_ = r.client.CloseWrite()
			got, _ := io.ReadAll(r.target)
			if (c.want == "") != (string(got) == string(c.in)) || c.want != "" && len(got) > 0 {
				t.Errorf("the target read %d bytes", len(got))
			}
			_ = r.target.Close()
			o, events := r.ends()
			want := c.want
			if want == "" {
				want = CauseFinished
			}
			if o.Cause != want || sequence(events) != "tunnel_closed "+string(want) {
				t.Errorf("ended with %+v; the log has %q", o, sequence(events))
			}
		})
	}
}

// TestRevisionEndsExemptTunnels: a revision that does not accept how a tunnel began closes
// it, and so does one that denies the host that its ClientHello named.
func TestRevisionEndsExemptTunnels(t *testing.T) {
	enforce := policy.Decision{Verdict: policy.Allow, Reason: policy.PolicyAllowed, Rule: "r"}
	report := enforce
	report.Mode = policy.Report
	withECH, anything := enforce, enforce
	withECH.ECH, anything.Protocol = true, policy.ProtocolAny
	ech := built(sni(targetName), extension(0xfe0d, nil))
	for name, c := range map[string]struct {
		hello  []byte
		next   policy.Decision
		host   string // that the next decision is for
		closed bool
	}{
		"enforced":                 {ech, enforce, targetName, true},
		"enforced, with ech":       {ech, withECH, targetName, false},
		"enforced, any protocol":   {ech, anything, targetName, false},
		"still in report mode":     {ech, report, targetName, false},
		"enforced, no server name": {clientHello(""), withECH, targetName, true},
		"the named host is denied": {clientHello("other.example"), policy.Decision{Reason: policy.PolicyDenied}, "other.example", true},
	} {
		t.Run(name, func(t *testing.T) {
			r := openTunnel(t, reported)
			write(t, r.client, c.hello)
			wantRead(t, r.target, string(c.hello))
			c.next.Revision.Digest = "sha256:next"
			var meant []admitted
			for _, o := range r.tracker.outdatedAt(activationOf(&c.next)) {
				if o.admission.Target.Host == c.host {
					meant = append(meant, o)
				}
			}
			if len(meant) != 1 {
				t.Fatalf("%d evaluations for %s", len(meant), c.host)
			}
			if closed := r.tracker.apply(meant, c.next) == 1; closed != c.closed {
				t.Errorf("closed: %v", closed)
			}
			_ = r.client.Close()
			_ = r.target.Close()
			if o, _ := r.ends(); (o.Cause == CausePolicyChanged) != c.closed {
				t.Errorf("ended with %+v", o)
			}
		})
	}
}

// outdatedAt lists what another activation is to be applied to.
func (t *Tracker) outdatedAt(a activation) []admitted {
	t.mu.Lock()
	t.active = a
	t.mu.Unlock()
	return t.outdated()
}
