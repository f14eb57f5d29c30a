package proxy

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/policy"
)

// constants reads the values of a package's string constants, also those that
// convert another package's.
func constants(t *testing.T, file, prefix string) map[string]string {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, d := range parsed.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		for _, s := range g.Specs {
			v := s.(*ast.ValueSpec)
			for i, n := range v.Names {
				switch x := v.Values[i].(type) {
				case *ast.BasicLit:
					found[n.Name] = strings.Trim(x.Value, `"`)
				case *ast.CallExpr:
					found[n.Name] = prefix + x.Args[0].(*ast.SelectorExpr).Sel.Name
				}
			}
		}
	}
	return found
}

// TestEveryReasonHasAnOutcome reads the vocabulary from its source, so that a
// reason that is added there and forgotten here does not go unseen.
func TestEveryReasonHasAnOutcome(t *testing.T) {
	problems := constants(t, "../identity/errors.go", "")
	reasons := constants(t, "../policy/reason.go", "identity:")
	if len(reasons) < 30 || len(problems) < 15 {
		t.Fatalf("read only %d reasons and %d problems", len(reasons), len(problems))
	}
	known := map[string]bool{}
	for constant, reason := range reasons {
		if name, ok := strings.CutPrefix(reason, "identity:"); ok {
			reason = problems[name]
		}
		known[reason] = true
		if reason == string(policy.PolicyAllowed) {
			continue
		}
		if _, ok := outcomes[policy.Reason(reason)]; !ok {
			t.Errorf("%s (%s) has no outcome", constant, reason)
		}
	}
	for constant, problem := range problems {
		if problem != "" && !known[problem] {
			t.Errorf("identity.%s (%s) is not a reason of package policy", constant, problem)
		}
	}
	for reason, o := range outcomes {
		if !known[string(reason)] {
			t.Errorf("outcome for the unknown reason %q", reason)
		}
		if o.next == "" || !printable(o.next) || !printable(o.proxyError) || o.proxyError == "" {
			t.Errorf("%s: %+v", reason, o)
		}
		if (o.status == 503 || o.status == 429) != (o.retryAfter > 0) {
			t.Errorf("%s: %d with Retry-After %s", reason, o.status, o.retryAfter)
		}
	}
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

func TestStatuses(t *testing.T) {
	want := map[int][]policy.Reason{
		400: {policy.CredentialAmbiguous, policy.TargetInvalid, policy.RequestInvalid, policy.TLSRequired},
		403: {policy.PolicyDenied, policy.NoRuleMatched, policy.PolicyError, policy.AddressProhibited},
		408: {policy.HeadTimeout, policy.BodyTimeout},
		413: {policy.ByteLimit},
		429: {policy.StepLimit, policy.RepositoryLimit},
		431: {policy.HeadTooLarge},
		500: {policy.InternalError},
		502: {policy.NameUnresolved, policy.TargetUnreachable, policy.ResponseInvalid, policy.UpstreamUnavailable},
		503: {policy.KeysUnavailable, policy.NamesUnavailable, policy.AdmittedUnavailable, policy.AuditUnavailable, policy.Overloaded, policy.InstanceLimit, policy.ShuttingDown, policy.EmergencyStop},
		504: {policy.TargetTimeout, policy.UpstreamTimeout},
	}
	of := map[policy.Reason]int{}
	for status, reasons := range want {
		for _, r := range reasons {
			of[r] = status
		}
	}
	for reason, o := range outcomes {
		want, ok := of[reason]
		if !ok {
			want = 407 // what is left is wrong with the credential
			if !strings.HasPrefix(string(reason), "credential_") {
				t.Errorf("%s is in no row", reason)
			}
		}
		if o.status != want {
			t.Errorf("%s: %d, want %d", reason, o.status, want)
		}
	}
	// A word that is none of ours is still a refusal.
	if r := NewRefusal("something else", ""); r.Status != 403 || r.Next(false) == "" || r.ProxyError() != "proxy_internal_error" {
		t.Errorf("unknown reason: %+v", r)
	}
}

func TestCauses(t *testing.T) {
	for reason, want := range map[policy.Reason]Cause{
		policy.TargetUnreachable: CauseTargetUnreachable, policy.TargetTimeout: CauseTargetTimeout,
		policy.ShuttingDown: CauseShutdown, policy.InternalError: CauseInternal,
		policy.EmergencyStop: CauseEmergencyStop, policy.CredentialRevoked: CauseRevoked,
	} {
		if got := NewRefusal(reason, "").Cause(); got != want {
			t.Errorf("%s ends with %s, want %s", reason, got, want)
		}
	}
}

// TestCanonicalLines: one line each, constant names, nothing that a client sent
// can make it two, no credential in any of it.
func TestCanonicalLines(t *testing.T) {
	decided := "level msg decision_id verdict mode would_deny reason rule workspace_uuid repository step_uuid deployment action host port client_address listener revision duration"
	refused := strings.Replace(decided, " rule", " status rule", 1)
	closed := "level msg decision_id close_reason bytes_sent bytes_received duration workspace_uuid repository step_uuid deployment host port"
	w := newEnv()
	g := w.gate(t)
	a, _ := g.Admit(t.Context(), attempt(name))
	a.Close(Outcome{Cause: CauseFinished})
	w.decision = policy.Decision{}
	g.Admit(t.Context(), attempt(name))
	lines := strings.Split(strings.TrimSpace(w.log.String()), "\n")
	if len(lines) != 3 {
		t.Fatalf("%d lines:\n%s", len(lines), w.log.String())
	}
	for i, want := range []string{decided, closed, refused} {
		var keys []string
		for field := range strings.FieldsSeq(lines[i]) {
			if key, _, ok := strings.Cut(field, "="); ok && key != "time" {
				keys = append(keys, key)
			}
		}
		if got := strings.Join(keys, " "); got != want {
			t.Errorf("line %d has\n%s, want\n%s", i, got, want)
		}
	}

	for _, handler := range []func(w *env) slog.Handler{
		func(w *env) slog.Handler { return slog.NewTextHandler(&w.log, nil) },
		func(w *env) slog.Handler { return slog.NewJSONHandler(&w.log, nil) },
	} {
		w := newEnv()
		w.config = func(c *Config) { c.Log = slog.New(handler(w)) }
		w.principal.Deployment.Slug = "x\nlevel=INFO msg=decision verdict=allow"
		w.principal.Repository.FullName = "acme/\r\nx"
		w.decision = policy.Decision{Rule: "a\nb", Reason: policy.PolicyDenied, Message: "c\nd"}
		g := w.gate(t)
		g.Admit(t.Context(), attempt(name))
		g.Admit(t.Context(), attempt("a\nmsg=decision:443"))
		if got := strings.Count(w.log.String(), "\n"); got != 2 || strings.Contains(w.log.String(), "\r") {
			t.Errorf("%d lines:\n%s", got, w.log.String())
		}
	}
}

func TestCredentialIsNowhere(t *testing.T) {
	w := newEnv()
	a := attempt(name)
	admission, _ := w.gate(t).Admit(t.Context(), a)
	a.CredentialError = &identity.Error{Problem: identity.CredentialMalformed}
	_, refusal := w.gate(t).Admit(t.Context(), a)
	for _, v := range []any{a, &a, admission, *refusal, w.events(), []audit.Event{}} {
		for _, f := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
			if s := fmt.Sprintf(f, v); strings.Contains(s, secret) || strings.Contains(s, fmt.Sprintf("%x", secret)) {
				t.Errorf("%s of %T prints the token", f, v)
			}
		}
	}
}
