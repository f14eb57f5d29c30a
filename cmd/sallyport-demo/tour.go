package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/bitbuckettest"
	"github.com/sallyport/sallyport/internal/testenv"
)

// The demo's targets. The policy repository allows the first to the production
// deployment of acme/payments only; no rule allows the second.
const (
	partnerHost  = "api.partner.example"
	unlistedHost = "fonts.unlisted.example"
	httpsPort    = 8443
	httpPort     = 8080
)

type options struct {
	sallyport string
	directory string
	once      bool
	out       io.Writer
}

// visit is one step of the tour.
type visit struct {
	title  string
	token  string
	url    string
	exit   int    // curl's exit status
	shows  string // what curl must have shown
	reason string // the audit row
	allow  bool
	would  bool // would_deny
	push   bool // a push changes policy before it
}

func demo(ctx context.Context, o options) (err error) {
	if err := need("curl", "git"); err != nil {
		return err
	}
	directory := o.directory
	if directory == "" {
		if directory, err = os.MkdirTemp("", "sallyport-demo-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(directory)) }()
	} else if err := os.MkdirAll(directory, 0o755); err != nil {
		return err
	}
	if directory, err = filepath.Abs(directory); err != nil {
		return err
	}
	env, err := testenv.Start(directory, testenv.Options{HTTPSPort: httpsPort, HTTPPort: httpPort})
	if err != nil {
		return fmt.Errorf("%w; ports %d and %d of 127.0.0.1 have to be free", err, httpsPort, httpPort)
	}
	defer env.Close()
	say(o.out, "Starting sallyport serve with an embedded PostgreSQL, beside an emulated Bitbucket …")
	began := time.Now()
	srv, err := startServer(ctx, o.sallyport, env)
	if err != nil {
		return err
	}
	defer srv.stop()
	say(o.out, "Ready after %.1f s. The proxy is on %s, its log in %s.", time.Since(began).Seconds(), srv.proxy, srv.logFile)

	failed := tour(ctx, o.out, env, srv)
	if err := showAudit(ctx, o.out, srv, visits(env)); err != nil {
		failed = append(failed, err)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if len(failed) > 0 {
		return fmt.Errorf("the tour had an unexpected result:\n%w\nthe end of the server's log:\n%s", errors.Join(failed...), lastLines(srv.logFile))
	}
	say(o.out, "\nThe result is as expected: six steps, six recorded decisions.")
	if o.once {
		return nil
	}
	return stay(ctx, o.out, env, srv)
}

// visits are the tour's steps, with tokens made now.
func visits(env *testenv.Env) []visit {
	url := fmt.Sprintf("https://%s:%d/v1/payments", partnerHost, httpsPort)
	expired := env.Payments.Run("main").Step(env.Production).Token(bitbuckettest.TokenOptions{
		Audiences: []string{testenv.Audience},
		IssuedAt:  time.Now().Add(-3 * time.Hour), Lifetime: time.Hour,
	})
	return []visit{
		{
			title: "1. acme/payments, deploying to Production, calls its partner's API",
			token: env.Token(env.Payments, env.Production, "main"), url: url,
			shows: partnerHost, reason: "policy_allowed", allow: true,
		},
		{
			title: "2. the same repository, the same request, from a branch build",
			token: env.Token(env.Payments, nil, "feature/try-it"), url: url,
			exit: 56, shows: "HTTP/1.1 403 ", reason: "policy_denied",
		},
		{
			title: "3. acme/website, which is still in report mode, calls a host that no rule lists",
			token: env.Token(env.Website, nil, "main"), url: fmt.Sprintf("https://%s:%d/inter.css", unlistedHost, httpsPort),
			shows: unlistedHost, reason: "no_rule_matched", allow: true, would: true,
		},
		{
			title: "4. acme/website, still in report mode, calls a name that resolves to a private address",
			token: env.Token(env.Website, nil, "main"), url: fmt.Sprintf("https://%s:%d/", testenv.PrivateHost, httpsPort),
			exit: 56, shows: "HTTP/1.1 403 ", reason: "address_prohibited",
		},
		{
			title: "5. a deployment to Production whose token has expired",
			token: expired, url: url,
			exit: 56, shows: "HTTP/1.1 407 ", reason: "credential_expired",
		},
		{
			title: "6. a push to acme/egress-policy adds an exception for acme/website, whose request of step 3 is then allowed by a rule",
			token: env.Token(env.Website, nil, "main"), url: fmt.Sprintf("https://%s:%d/inter.css", unlistedHost, httpsPort),
			shows: unlistedHost, reason: "policy_allowed", allow: true, push: true,
		},
	}
}

// tour lets every step try, prints what it saw, and returns what was not as it
// should be.
func tour(ctx context.Context, out io.Writer, env *testenv.Env, srv *server) (failed []error) {
	for _, v := range visits(env) {
		say(out, "\n%s", v.title)
		if v.push {
			if err := srv.policy.push(ctx, out, srv); err != nil {
				failed = append(failed, fmt.Errorf("%s: %w", v.title, err))
			}
		}
		say(out, "   $ HTTPS_PROXY=http://step:$BITBUCKET_STEP_OIDC_TOKEN@%s curl -v %s", srv.proxy, v.url)
		exit, seen, err := curl(ctx, env, srv, v)
		for line := range strings.Lines(seen) {
			say(out, "   %s", strings.TrimRight(line, "\n"))
		}
		switch {
		case err != nil:
			failed = append(failed, fmt.Errorf("%s: %w", v.title, err))
		case exit != v.exit:
			failed = append(failed, fmt.Errorf("%s: curl ended with %d, not %d", v.title, exit, v.exit))
		case !strings.Contains(seen, v.shows):
			failed = append(failed, fmt.Errorf("%s: curl did not show %q", v.title, v.shows))
		case !v.allow && !strings.Contains(seen, v.reason):
			failed = append(failed, fmt.Errorf("%s: curl did not show the reason %s", v.title, v.reason))
		}
	}
	return failed
}

// curl runs the real one, and returns its exit status and what of its output a
// person would check.
func curl(ctx context.Context, env *testenv.Env, srv *server, v visit) (int, string, error) {
	cmd := exec.CommandContext(ctx, "curl", "--verbose", "--silent", "--show-error", "--max-time", "30", "--cacert", env.CAFile, v.url)
	// The credential goes by the environment, as in a step: arguments are public.
	cmd.Env = append(withoutProxies(os.Environ()), "HTTPS_PROXY=http://step:"+v.token+"@"+srv.proxy)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		return 0, "", err
	} else if ok && exit.ExitCode() < 0 {
		return 0, "", err
	}
	return cmd.ProcessState.ExitCode(), digest(stderr.String()) + stdout.String(), nil
}

// digest keeps curl's lines about the proxy's answer and about failure.
func digest(verbose string) string {
	var b strings.Builder
	for line := range strings.Lines(verbose) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case strings.HasPrefix(line, "> CONNECT "), strings.HasPrefix(line, "curl: "):
		case strings.HasPrefix(line, "< ") && len(line) > 2 && !boring(line):
		default:
			continue
		}
		b.WriteString(line + "\n")
	}
	return b.String()
}

func boring(line string) bool {
	for _, name := range []string{"Date", "Content-Length", "Content-Type", "Connection", "Cache-Control", "Alt-Svc"} {
		if strings.HasPrefix(strings.ToLower(line), "< "+strings.ToLower(name)+":") {
			return true
		}
	}
	return false
}

func withoutProxies(env []string) []string {
	out := make([]string, 0, len(env)+1)
	for _, e := range env {
		switch name, _, _ := strings.Cut(e, "="); strings.ToUpper(name) {
		case "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY":
		default:
			out = append(out, e)
		}
	}
	return out
}

func say(w io.Writer, format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
