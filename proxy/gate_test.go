package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/fair"
	"github.com/sallyport/sallyport/internal/uuid"
	"github.com/sallyport/sallyport/policy"
)

const name = "api.partner.example:443"

func bad(p identity.Problem) error {
	return &identity.Error{Problem: p, Detail: "detail of " + string(p)}
}

// TestEachStepOfTheGateCanRefuse takes every way out of the gate: what is answered, what is recorded, and above
// all what was not done.
func TestEachStepOfTheGateCanRefuse(t *testing.T) {
	tests := []struct {
		name   string
		set    func(*env, *Attempt)
		reason policy.Reason // "" is an admission
		status int
		trace  string
		event  bool
		check  func(*testing.T, *Refusal, audit.Event)
	}{
		{"allowed", func(*env, *Attempt) {}, "", 0, "authenticate decide available resolve record", true, nil},
		{"no credential", func(_ *env, a *Attempt) { a.Credential = identity.Credential{} },
			policy.CredentialMissing, 407, "", false, nil},
		{"two credentials", func(_ *env, a *Attempt) {
			a.Credential, a.CredentialError = identity.Credential{}, bad(identity.CredentialAmbiguous)
		}, policy.CredentialAmbiguous, 400, "record", true, nil},
		{"an error beside a credential", func(_ *env, a *Attempt) { a.CredentialError = bad(identity.CredentialMalformed) },
			policy.CredentialMalformed, 407, "record", true, nil},
		{"a bad credential", func(w *env, _ *Attempt) { w.authErr = bad(identity.CredentialExpired) },
			policy.CredentialExpired, 407, "authenticate record", true, func(t *testing.T, _ *Refusal, e audit.Event) {
				if e.StepUUID != "" || e.Host != "api.partner.example" || e.Message != "detail of credential_expired" {
					t.Errorf("event %+v", e)
				}
			}},
		{"a revoked credential", func(w *env, _ *Attempt) {
			w.authErr = &identity.Error{Problem: identity.CredentialRevoked, Principal: w.principal}
		}, policy.CredentialRevoked, 407, "authenticate record", true, func(t *testing.T, _ *Refusal, e audit.Event) {
			if e.StepUUID == "" {
				t.Error("the event does not say whose credential it was")
			}
		}},
		{"names unavailable", func(w *env, _ *Attempt) { w.authErr = bad(identity.NamesUnavailable) },
			policy.NamesUnavailable, 503, "authenticate record", true, nil},
		{"keys unavailable", func(w *env, _ *Attempt) { w.authErr = bad(identity.KeysUnavailable) },
			policy.KeysUnavailable, 503, "authenticate record", true, nil},
		{"neither a principal nor an error", func(w *env, _ *Attempt) { w.principal = nil },
			policy.InternalError, 500, "authenticate record", true, nil},
		{"a principal and an error", func(w *env, _ *Attempt) { w.authErr = errors.New("10.1.2.3: connection refused") },
			policy.InternalError, 500, "authenticate record", true, func(t *testing.T, r *Refusal, e audit.Event) {
				if strings.Contains(fmt.Sprintf("%+v", r), "10.1.2.3") || e.StepUUID != "" {
					t.Errorf("refusal %+v, event %+v", r, e)
				}
			}},
		{"target unreadable, no credential", func(_ *env, a *Attempt) { a.Target, a.Credential = "api.partner.example", identity.Credential{} },
			policy.TargetInvalid, 400, "", false, nil},
		{"target unreadable, bad credential", func(w *env, a *Attempt) {
			a.Target, w.authErr = "api.partner.example", bad(identity.CredentialExpired)
		}, policy.TargetInvalid, 400, "authenticate", false, nil},
		{"target unreadable, revoked credential", func(w *env, a *Attempt) {
			a.Target, w.authErr = "x", &identity.Error{Problem: identity.CredentialRevoked, Principal: w.principal}
		}, policy.TargetInvalid, 400, "authenticate record", true, nil},
		{"target unreadable", func(_ *env, a *Attempt) { a.Target = "step:hunter2@api.partner.example:443" },
			policy.TargetInvalid, 400, "authenticate record", true, func(t *testing.T, r *Refusal, e audit.Event) {
				if e.TargetRaw != "…@api.partner.example:443" || e.Host != "" || e.Port != 0 || e.Scheme != "" || e.StepUUID == "" {
					t.Errorf("event %+v", e)
				}
				if r.Detail == "" || e.Message != r.Detail {
					t.Errorf("detail %q, message %q", r.Detail, e.Message)
				}
			}},
		{"absolute target unreadable", func(_ *env, a *Attempt) {
			a.Action, a.Target = policy.Forward, "http://u:hunter2@api.partner.example/p?token=hunter3"
		}, policy.TargetInvalid, 400, "authenticate record", true, func(t *testing.T, r *Refusal, e audit.Event) {
			if s := fmt.Sprintf("%+v %+v", r, e); strings.Contains(s, "hunter") {
				t.Errorf("a password got out: %s", s)
			}
		}},
		{"neither action", func(_ *env, a *Attempt) { a.Action = "" }, policy.TargetInvalid, 400, "authenticate record", true, nil},
		{"another spelling", func(_ *env, a *Attempt) { a.Target = "API.Partner.Example.:443" }, "", 0,
			"authenticate decide available resolve record", true, func(t *testing.T, _ *Refusal, e audit.Event) {
				if e.TargetRaw != "API.Partner.Example.:443" || e.Host != "api.partner.example" {
					t.Errorf("event %+v", e)
				}
			}},
		{"policy denies", func(w *env, _ *Attempt) { w.decision.Verdict, w.decision.Reason = policy.Deny, policy.PolicyDenied },
			policy.PolicyDenied, 403, "authenticate decide record", true, func(t *testing.T, r *Refusal, e audit.Event) {
				if r.Message != "the author's word" || e.Message != r.Message || r.Rule != "partner-api" || e.Rule != r.Rule {
					t.Errorf("refusal %+v, event %+v", r, e)
				}
			}},
		{"the zero decision", func(w *env, _ *Attempt) { w.decision = policy.Decision{} },
			policy.NoRuleMatched, 403, "authenticate decide record", true, nil},
		{"a denial that calls itself an allow", func(w *env, _ *Attempt) { w.decision.Verdict = policy.Deny },
			policy.PolicyError, 403, "authenticate decide record", true, nil},
		{"a verdict that is neither", func(w *env, _ *Attempt) { w.decision.Verdict = 7 },
			policy.PolicyError, 403, "authenticate decide record", true, nil},
		{"policy fails, allowing", func(w *env, _ *Attempt) {
			w.decideErr, w.decision.Mode, w.decision.WouldDeny = errors.New("rego: /srv/policy/x.rego"), policy.Report, true
		}, policy.PolicyError, 403, "authenticate decide record", true, func(t *testing.T, r *Refusal, e audit.Event) {
			if e.Mode != "enforce" || e.WouldDeny || e.Rule != "" || r.Message != "" || e.Revision != "sha256:feed" || len(e.Input) == 0 {
				t.Errorf("event %+v", e)
			}
			if strings.Contains(fmt.Sprintf("%+v", r), "/srv") {
				t.Errorf("refusal %+v", r)
			}
		}},
		{"an allow that has expired", func(w *env, _ *Attempt) { w.decision.Expires = time.Now().Add(-time.Second) },
			policy.PolicyError, 403, "authenticate decide record", true, nil},
		{"report mode", func(w *env, _ *Attempt) {
			w.decision.Mode, w.decision.WouldDeny, w.decision.Reason = policy.Report, true, policy.NoRuleMatched
		}, "", 0, "authenticate decide available resolve record", true, func(t *testing.T, _ *Refusal, e audit.Event) {
			if e.Verdict != "allow" || e.Mode != "report" || !e.WouldDeny || e.Reason != "no_rule_matched" || e.Status != 200 {
				t.Errorf("event %+v", e)
			}
		}},
		{"an address", func(_ *env, a *Attempt) { a.Target = "93.184.216.34:443" },
			policy.AddressProhibited, 403, "authenticate decide record", true, func(t *testing.T, r *Refusal, e audit.Event) {
				if r.Message != "" || e.Message != r.Detail {
					t.Errorf("the allow's message explains the refusal: %+v", r)
				}
			}},
		{"an address in report mode", func(w *env, a *Attempt) {
			a.Target, w.decision.Mode, w.decision.WouldDeny = "93.184.216.34:443", policy.Report, true
		}, policy.AddressProhibited, 403, "authenticate decide record", true, func(t *testing.T, _ *Refusal, e audit.Event) {
			if e.WouldDeny || e.Verdict != "deny" {
				t.Errorf("event %+v", e)
			}
		}},
		{"an address that a rule names", func(w *env, a *Attempt) { a.Target, w.decision.Address = "93.184.216.34:443", true },
			"", 0, "authenticate decide available record", true, nil},
		{"a private address that a rule names", func(w *env, a *Attempt) { a.Target, w.decision.Address = "10.0.0.1:443", true },
			policy.AddressProhibited, 403, "authenticate decide available record", true, nil},
		{"log known to be away", func(w *env, _ *Attempt) { w.available = errors.New("db1.internal: down") },
			policy.AuditUnavailable, 503, "authenticate decide available record", true, func(t *testing.T, r *Refusal, _ audit.Event) {
				if strings.Contains(fmt.Sprintf("%+v", r), "db1") || r.RetryAfter == 0 {
					t.Errorf("refusal %+v", r)
				}
			}},
		{"log away in report mode", func(w *env, _ *Attempt) {
			w.available, w.decision.Mode, w.decision.WouldDeny = errors.New("down"), policy.Report, true
		}, policy.AuditUnavailable, 503, "authenticate decide available record", true, nil},
		{"name without addresses", func(w *env, _ *Attempt) { w.addrs = nil },
			policy.NameUnresolved, 502, "authenticate decide available resolve record", true, nil},
		{"name not found", func(w *env, _ *Attempt) { w.addrs, w.resolveErr = nil, errors.New("10.0.0.2:53: NXDOMAIN") },
			policy.NameUnresolved, 502, "authenticate decide available resolve record", true, func(t *testing.T, r *Refusal, _ audit.Event) {
				if r.ProxyError() != "dns_error" || strings.Contains(fmt.Sprintf("%+v", r), "10.0.0.2") {
					t.Errorf("refusal %+v", r)
				}
			}},
		{"addresses and an error", func(w *env, _ *Attempt) { w.resolveErr = errors.New("half an answer") },
			policy.NameUnresolved, 502, "authenticate decide available resolve record", true, nil},
		{"too many lookups", func(w *env, _ *Attempt) {
			w.resolveErr = &fair.OverError{Level: fair.Total, Kind: fair.Slots, Limit: 256}
		},
			policy.Overloaded, 503, "authenticate decide available resolve record", true, func(t *testing.T, r *Refusal, _ audit.Event) {
				if r.RetryAfter == 0 || strings.Contains(r.Detail, "crowded") {
					t.Errorf("refusal %+v", r)
				}
			}},
		{"lookup too slow", func(w *env, _ *Attempt) { w.resolveErr = fmt.Errorf("dns: %w", context.DeadlineExceeded) },
			policy.NameUnresolved, 504, "authenticate decide available resolve record", true, func(t *testing.T, r *Refusal, _ audit.Event) {
				if r.ProxyError() != "dns_timeout" {
					t.Errorf("Proxy-Status says %q", r.ProxyError())
				}
			}},
		{"name of a private address", func(w *env, _ *Attempt) {
			w.addrs = []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("::ffff:169.254.169.254")}
		}, policy.AddressProhibited, 403, "authenticate decide available resolve record", true, func(t *testing.T, r *Refusal, e audit.Event) {
			want := audit.Attribute{Name: "prohibited_addresses", Value: "private 10.0.0.1, metadata ::ffff:169.254.169.254"}
			if len(e.Attributes) != 1 || e.Attributes[0] != want {
				t.Errorf("attributes %+v", e.Attributes)
			}
			if s := fmt.Sprintf("%+v", r); strings.Contains(s, "10.0.0.1") || strings.Contains(s, "169.254") {
				t.Errorf("an internal address in what the client sees: %s", s)
			}
		}},
		{"name of both", func(w *env, _ *Attempt) { w.addrs = append(w.addrs, netip.MustParseAddr("127.0.0.1")) }, "", 0,
			"authenticate decide available resolve record", true, func(t *testing.T, _ *Refusal, e audit.Event) {
				if len(e.Addresses) != 1 || e.DialedAddress.String() != "93.184.216.34" || len(e.Attributes) != 1 {
					t.Errorf("event %+v", e)
				}
			}},
		{"the allow is not recorded", func(w *env, _ *Attempt) { w.recordErr = errors.New("no answer") },
			policy.AuditUnavailable, 503, "authenticate decide available resolve record", false, nil},
		{"a denial is not recorded", func(w *env, _ *Attempt) {
			w.decision.Verdict, w.decision.Reason, w.recordErr = policy.Deny, policy.PolicyDenied, errors.New("no answer")
		}, policy.PolicyDenied, 403, "authenticate decide record", false, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newEnv()
			a := attempt(name)
			test.set(w, &a)
			admission, refusal := w.gate(t).Admit(t.Context(), a)
			if (admission == nil) == (refusal == nil) {
				t.Fatalf("got %v and %v", admission, refusal)
			}
			if got := strings.Join(w.trace, " "); got != test.trace {
				t.Errorf("did %q, want %q", got, test.trace)
			}
			if len(w.decided) != 1 {
				t.Errorf("counted %q, want one", w.decided)
			}
			events := w.events()
			if (len(events) == 1) != test.event || len(events) > 1 {
				t.Fatalf("recorded %+v", events)
			}
			if test.reason == "" {
				if refusal != nil {
					t.Fatalf("refused: %+v", refusal)
				}
			} else {
				checkRefusal(t, refusal, test.reason, test.status, events)
				if counted := len(w.unrecorded) == 1; counted != (w.recordErr == nil && !test.event) {
					t.Errorf("counted as unrecorded: %v", w.unrecorded)
				}
			}
			if test.check != nil {
				test.check(t, refusal, append(events, audit.Event{})[0])
			}
			if log := w.log.String(); strings.Contains(log, "hunter") || strings.Contains(log, secret) {
				t.Errorf("a secret in the log:\n%s", log)
			}
		})
	}
}

func checkRefusal(t *testing.T, r *Refusal, reason policy.Reason, status int, events []audit.Event) {
	t.Helper()
	if r == nil || r.Reason != reason || r.Status != status {
		t.Fatalf("refusal %+v, want %s, %d", r, reason, status)
	}
	if r.Next(false) == "" || r.ProxyError() == "" {
		t.Errorf("next %q, Proxy-Status %q", r.Next(false), r.ProxyError())
	}
	if len(events) == 0 {
		if r.Recorded {
			t.Error("the refusal says that it is on record")
		}
		return
	}
	e := events[0]
	if e.Kind != audit.KindDecision || e.Verdict != "deny" || e.Reason != string(reason) || e.Status != status ||
		e.WouldDeny || e.DecisionID != r.DecisionID || !r.Recorded || len(e.Addresses) != 0 || e.DialedAddress.IsValid() {
		t.Errorf("event %+v", e)
	}
}

func TestAdmissionAndItsEvents(t *testing.T) {
	w := newEnv()
	now := time.Date(2026, 11, 21, 8, 40, 0, 123456789, time.FixedZone("CET", 3600))
	w.config = func(c *Config) { c.Now = func() time.Time { return now } }
	w.addrs = append(w.addrs, netip.MustParseAddr("2606:2800:220:1::1"), netip.MustParseAddr("::ffff:93.184.216.35"))
	admission, refusal := w.gate(t).Admit(t.Context(), attempt(name))
	if refusal != nil {
		t.Fatal(refusal)
	}
	started := time.Date(2026, 11, 21, 7, 40, 0, 123456000, time.UTC)
	want := []netip.AddrPort{netip.MustParseAddrPort("93.184.216.34:443"), netip.MustParseAddrPort("[2606:2800:220:1::1]:443"), netip.MustParseAddrPort("93.184.216.35:443")}
	if !slices.Equal(admission.Addresses, want) || admission.Admitted != started || admission.Principal != w.principal {
		t.Errorf("admission %+v", admission)
	}
	asked := w.asked[0]
	if asked.Time != started || asked.Target != admission.Target || asked.ClientAddress.String() != "198.51.100.7" || asked.Principal != w.principal {
		t.Errorf("policy was asked %+v", asked)
	}
	e := w.events()[0]
	for what, ok := range map[string]bool{
		"when":     e.Time == started && len(e.DecisionID) == 36 && e.DecisionID == admission.ID && e.DecisionID[14] == '7',
		"who":      e.Issuer != "" && e.CredentialKind == "oidc" && e.Workspace == "acme" && e.Repository == "acme/payments" && e.Project == "PAY",
		"uuids":    e.WorkspaceUUID != "" && e.RepositoryUUID != "" && e.DeploymentUUID != "" && e.PipelineUUID != "" && e.StepUUID != "",
		"deployed": e.Deployment == "production-eu" && e.DeploymentType == "production" && e.Branch == "main",
		"where":    e.ClientAddress.String() == "198.51.100.7" && e.Listener == "plain",
		"what":     e.Action == "connect" && e.Scheme == "https" && e.Host == "api.partner.example" && e.Port == 443 && e.TargetRaw == "",
		"policy":   e.Revision == "sha256:feed" && e.Commit == "c0ffee" && e.Rule == "partner-api" && len(e.Rules) == 2 && string(e.Input) == `{"action":"connect"}`,
		"outcome":  e.Verdict == "allow" && e.Mode == "enforce" && e.Reason == "policy_allowed" && e.Status == 200 && len(e.Addresses) == 3,
	} {
		if !ok {
			t.Errorf("the event does not say %s: %+v", what, e)
		}
	}
	now = now.Add(3 * time.Second)
	admission.Close(Outcome{Sent: 10, Received: 20, Cause: CauseIdle})
	admission.Close(Outcome{Cause: CauseOperator})
	events := w.events()
	if len(events) != 2 || len(w.closed) != 1 {
		t.Fatalf("closed twice: %d events, %v", len(events), w.closed)
	}
	e = events[1]
	if e.Kind != audit.KindTunnelClosed || e.DecisionID != admission.ID || e.BytesSent != 10 || e.BytesReceived != 20 || e.CloseReason != "idle_timeout" ||
		e.Duration != 3*time.Second || e.StepUUID != "" || e.Host != "" || e.Action != "" || e.ClientAddress.IsValid() || e.Time != started.Add(3*time.Second) {
		t.Errorf("closing event %+v", e)
	}
}

// TestUnrecordedAllowIsRefused: the log may have an allow although it did not
// confirm it in time. The recorder resolves that: a second event from the gate would be
// one too many.
func TestUnrecordedAllowIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv()
		w.recordWait = true
		g := w.gate(t)
		_, refusal := g.Admit(t.Context(), attempt(name))
		if refusal == nil || refusal.Reason != policy.AuditUnavailable || refusal.Recorded {
			t.Fatalf("refusal %+v", refusal)
		}
		lost := &lossy{}
		w = newEnv()
		w.config = func(c *Config) { c.Recorder = lost }
		_, refusal = w.gate(t).Admit(t.Context(), attempt(name))
		if refusal == nil || refusal.Reason != policy.AuditUnavailable {
			t.Fatalf("refusal %+v", refusal)
		}
		if len(lost.events) != 1 || lost.events[0].Verdict != "allow" {
			t.Fatalf("the log holds %+v", lost.events)
		}
	})
}

// lossy records the first event and reports that it did not.
type lossy struct{ events []audit.Event }

func (l *lossy) AvailableTo(audit.Source) error { return nil }
func (l *lossy) Record(_ context.Context, e *audit.Event) error {
	l.events = append(l.events, *e)
	if len(l.events) == 1 {
		return errors.New("connection lost before the answer")
	}
	return nil
}

func TestDisconnectDoesNotCancelTheRecord(t *testing.T) {
	for _, verdict := range []policy.Verdict{policy.Allow, policy.Deny} {
		w := newEnv()
		w.decision.Verdict = verdict
		if verdict == policy.Deny {
			w.decision.Reason = policy.PolicyDenied
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		w.gate(t).Admit(ctx, attempt(name))
		if len(w.recordAlive) != 1 || w.recordAlive[0] != nil {
			t.Errorf("%v: recorded with %v", verdict, w.recordAlive)
		}
	}
}

// TestRefusedPrincipalsAreThrottledEverywhere: a credential that is not accepted
// cannot fill the log by way of a bad target, or of an emergency stop, either.
func TestRefusedPrincipalsAreThrottledEverywhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, set := range map[string]func(*Gate, *Attempt){
			"target": func(_ *Gate, a *Attempt) { a.Target = "x" },
			"stop":   func(g *Gate, _ *Attempt) { g.Stop() },
		} {
			w := newEnv()
			w.authErr = &identity.Error{Problem: identity.CredentialExpired, Principal: w.principal}
			g := w.gate(t)
			a := attempt("api.partner.example:443")
			set(g, &a)
			for range 50 {
				g.Admit(t.Context(), a)
			}
			if n := len(w.events()); n != 5 || w.events()[0].StepUUID == "" {
				t.Errorf("%s: %d events", name, n)
			}
		}
	})
}

func TestBadCredentialsAreThrottled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, err := range []error{
			bad(identity.CredentialSignature), errors.New("boom"),
			// That it is known whose it was gives no right to more.
			&identity.Error{Problem: identity.CredentialExpired, Principal: newEnv().principal},
			&identity.Error{Problem: identity.CredentialRevoked, Principal: newEnv().principal},
		} {
			w := newEnv()
			w.authErr = err
			g := w.gate(t)
			for i := range 50 {
				if _, r := g.Admit(t.Context(), attempt(name)); r.Throttled != (i >= 5) {
					t.Errorf("%v: refusal %d is delayed: %t", err, i, r.Throttled)
				}
			}
			if len(w.events()) != 5 || len(w.unrecorded) != 45 || len(w.decided) != 50 {
				t.Errorf("%v: %d events, %d counted", err, len(w.events()), len(w.unrecorded))
			}
			if lines := strings.Count(w.log.String(), "\n"); lines > 10 {
				t.Errorf("%v: %d log lines", err, lines)
			}
			other := attempt(name)
			other.Client = netip.MustParseAddrPort("198.51.100.8:1")
			if _, r := g.Admit(t.Context(), other); !r.Recorded {
				t.Error("one address throttles another")
			}
			time.Sleep(time.Second)
			if _, r := g.Admit(t.Context(), attempt(name)); !r.Recorded {
				t.Error("the next second is throttled too")
			}
		}
	})
}

func TestThrottleIsBounded(t *testing.T) {
	th := throttle[netip.Addr]{perSecond: 5}
	now := time.Unix(1, 0)
	taken := 0
	for i := range 100_000 {
		if th.take(netip.AddrFrom4([4]byte{198, byte(i >> 16), byte(i >> 8), byte(i)}), now) {
			taken++
		}
	}
	if len(th.counts) > throttleKeys+1 || taken > throttleKeys+5 {
		t.Errorf("%d addresses, %d taken", len(th.counts), taken)
	}
	th = throttle[netip.Addr]{perSecond: 5}
	taken = 0
	for i := range 100 {
		if th.take(host(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: byte(i)})), now) {
			taken++
		}
	}
	if taken != 5 {
		t.Errorf("one /64 took %d", taken)
	}
}

func TestClosedGate(t *testing.T) {
	w := newEnv()
	g := w.gate(t)
	g.CloseAdmission()
	_, r := g.Admit(t.Context(), attempt(name))
	if r == nil || r.Reason != policy.ShuttingDown || r.Status != 503 || len(w.trace) != 0 || len(w.unrecorded) != 1 {
		t.Errorf("refusal %+v, did %v", r, w.trace)
	}
}

func TestZeroGateAdmitsNothing(t *testing.T) {
	var g Gate
	if a, r := g.Admit(t.Context(), attempt(name)); a != nil || r == nil || r.Reason != policy.InternalError {
		t.Errorf("got %+v, %+v", a, r)
	}
	g.CloseAdmission()
	if a, r := g.Admit(t.Context(), attempt(name)); a != nil || r == nil {
		t.Errorf("got %+v, %+v", a, r)
	}
}

func TestGateNamesWhatIsMissing(t *testing.T) {
	w := newEnv()
	full := Config{Authenticator: w, Decider: w, Recorder: w, Resolver: w, Guard: w.guard}
	for want, take := range map[string]func(*Config){
		"Authenticator": func(c *Config) { c.Authenticator = nil }, "Decider": func(c *Config) { c.Decider = nil },
		"Recorder": func(c *Config) { c.Recorder = nil }, "Resolver": func(c *Config) { c.Resolver = nil }, "Guard": func(c *Config) { c.Guard = nil },
	} {
		c := full
		take(&c)
		if g, err := NewGate(c); g != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("without %s: %v", want, err)
		}
	}
}

func TestForward(t *testing.T) {
	w := newEnv()
	a := attempt("http://API.partner.example/v1?token=hunter2")
	a.Action, a.HTTP = policy.Forward, &policy.HTTPRequest{Method: "POST", Path: "/v1"}
	admission, refusal := w.gate(t).Admit(t.Context(), a)
	if refusal != nil {
		t.Fatal(refusal)
	}
	admission.Close(Outcome{Cause: CauseFinished, UpstreamStatus: 204})
	e, end := w.events()[0], w.events()[1]
	if e.Action != "request" || e.Scheme != "http" || e.Port != 80 || e.Method != "POST" || e.Path != "/v1" || e.Status != 0 || e.TargetRaw != "" {
		t.Errorf("event %+v", e)
	}
	if end.Kind != audit.KindRequestClosed || end.UpstreamStatus != 204 {
		t.Errorf("end %+v", end)
	}
	if admission.Path != "/v1?token=hunter2" || strings.Contains(fmt.Sprintf("%+v", w.events()), "hunter2") {
		t.Error("a query is in the log")
	}
}

func TestSchemeOfATunnelFollowsItsDecision(t *testing.T) {
	w := newEnv()
	w.decision.Protocol = policy.ProtocolAny
	admission, _ := w.gate(t).Admit(t.Context(), attempt("git.partner.example:22"))
	admission.Close(Outcome{})
	for _, e := range w.events() {
		if e.Scheme != "" {
			t.Errorf("%s says %q of a tunnel that may carry anything", e.Kind, e.Scheme)
		}
	}
}

func TestDecisionIDs(t *testing.T) {
	now := time.UnixMilli(0x0192_3456_789a)
	seen := map[string]bool{}
	for range 1000 {
		id := uuid.NewV7(now)
		if seen[id] || len(id) != 36 || id[:15] != "01923456-789a-7" || !strings.ContainsRune("89ab", rune(id[19])) {
			t.Fatalf("id %q", id)
		}
		seen[id] = true
	}
}
