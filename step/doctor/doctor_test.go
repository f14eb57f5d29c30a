package doctor

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/stepapi"
	"github.com/sallyport/sallyport/step/token"
)

// jwt returns a token with these claims. Its signature is not valid: the server of this
// test does not verify it.
func jwt(algorithm string, claims map[string]any) string {
	encode := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	return encode(map[string]string{"alg": algorithm, "typ": "JWT"}) + "." + encode(claims) + "." + strings.Repeat("c2lnbmF0dXJl", 20)
}

// source is a token source with a fixed token or error.
type source struct {
	text string
	err  error
}

func (s source) Token(context.Context) (token.Token, error) {
	if s.err != nil {
		return token.Token{}, s.err
	}
	return token.Parse(s.text)
}
func (s source) Renew(ctx context.Context, _ token.Token) (token.Token, error) { return s.Token(ctx) }

// world is a step with nothing wrong, and the servers around it.
type world struct {
	config    Config
	claims    map[string]any
	algorithm string
	files     map[string]string
	env       map[string]string
	answer    http.HandlerFunc // of the proxy; nil: accepts
	bitbucket int              // status of Bitbucket's proxy
	refusal   chan string      // of the forwarder; empty: it admits the user
}

const stepUUID, repositoryUUID = "{759de0c6-eaee-4eaa-b7a6-c507eec759a7}", "{1de489be-ce6a-42a0-a8c8-eadbf1174ac7}"

func newWorld(t *testing.T) *world {
	forwarder, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { forwarder.Close() })
	proxyURL := "http://" + forwarder.Addr().String()
	w := &world{
		refusal: make(chan string, 2), algorithm: "RS256", bitbucket: http.StatusOK, files: map[string]string{".npmrc": "registry=https://registry.a.example\n"},
		config: Config{TokenOrigin: "environment variable BITBUCKET_STEP_OIDC_TOKEN", TokenName: "BITBUCKET_STEP_OIDC_TOKEN",
			Forwarder: netip.MustParseAddrPort(forwarder.Addr().String()), Targets: []string{"api.partner.example:443"},
			Expected: []Variable{{"HTTPS_PROXY", proxyURL}, {"NODE_USE_ENV_PROXY", "1"}}},
		claims: map[string]any{"iss": "https://api.bitbucket.org/2.0/workspaces/acme/pipelines-config/identity/oidc", "aud": "https://egress.acme.example",
			"exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(), "stepUuid": stepUUID, "repositoryUuid": repositoryUUID},
		env: map[string]string{"HTTPS_PROXY": proxyURL, "https_proxy": proxyURL, "HTTP_PROXY": proxyURL, "http_proxy": proxyURL,
			"NO_PROXY": "localhost,127.0.0.1,host.docker.internal", "no_proxy": "localhost,127.0.0.1,host.docker.internal",
			"NODE_USE_ENV_PROXY": "1", "BITBUCKET_STEP_UUID": stepUUID, "BITBUCKET_REPO_UUID": repositoryUUID,
			"BITBUCKET_BUILD_NUMBER": "7", "BITBUCKET_REPO_FULL_NAME": "acme/payments"},
	}
	go serveForwarder(forwarder, w.refusal)
	return w
}

// serveForwarder is a forwarder: it waits until a client ends its direction, answers with
// what it receives from refusal, if anything, and closes the connection.
func serveForwarder(l net.Listener, refusal <-chan string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, c)
		select {
		case text := <-refusal:
			_, _ = io.WriteString(c, text)
		default:
		}
		c.Close()
	}
}

// accept is the server of a proxy that accepts the token, and allows hosts below
// partner.example.
func accept(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	targets := r.URL.Query()[stepapi.ParameterTo]
	if len(targets) == 0 {
		_ = json.NewEncoder(w).Encode(stepapi.Step{Principal: stepapi.Principal{Repository: "acme/payments", Deployment: "production"}, Mode: stepapi.ModeEnforce})
		return
	}
	var e stepapi.Evaluations
	for _, target := range targets {
		v := stepapi.Evaluation{Target: target, Verdict: stepapi.VerdictDeny, Reason: "no_rule_matched", Next: "ask the owner of the policy for a rule", DecisionID: "01a1fdf4"}
		if strings.Contains(target, ".partner.example:") {
			v = stepapi.Evaluation{Target: target, Verdict: stepapi.VerdictAllow, Reason: "policy_allowed", Rule: "partner"}
		}
		e.Evaluations = append(e.Evaluations, v)
	}
	_ = json.NewEncoder(w).Encode(e)
}

// refuse is the server of a proxy that refuses the token, and repeats it in its text, as
// no honest server does.
func refuse(reason string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(stepapi.FieldReason, reason)
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprintf(w, "sallyport: %s: it is %s\x1b[2J (decision d). What to do: add the audience of the proxy to the step.\n", reason, r.Header.Get("Proxy-Authorization"))
	}
}

// examine starts the servers, and returns the checks and the output.
func (w *world) examine(t *testing.T) (checks []Check, output string) {
	t.Helper()
	if w.answer == nil {
		w.answer = accept
	}
	server := httptest.NewTLSServer(w.answer)
	t.Cleanup(server.Close)
	bitbucket := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.String() != "http://api.bitbucket.org/2.0/repositories/acme/payments?fields=uuid" {
			t.Errorf("Bitbucket's proxy got %s", r.URL)
		}
		rw.WriteHeader(w.bitbucket)
	}))
	t.Cleanup(bitbucket.Close)
	c := &w.config
	home := t.TempDir()
	if c.Proxies == nil {
		c.Proxies = []string{server.URL}
	}
	for i, p := range c.Proxies {
		c.Proxies[i] = strings.ReplaceAll(p, "PORT", server.URL[strings.LastIndex(server.URL, ":")+1:])
	}
	if c.CAFile == "" {
		c.CAFile = filepath.Join(home, "ca.pem")
		write(t, c.CAFile, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	}
	if c.Token == nil {
		c.Token = source{text: jwt(w.algorithm, w.claims)}
	}
	secret := ""
	if s, ok := c.Token.(source); ok {
		secret = s.text
	}
	for name, text := range w.files {
		write(t, filepath.Join(home, name), strings.ReplaceAll(text, "TOKEN", secret))
	}
	w.env["BITBUCKET_STEP_OIDC_TOKEN"] = secret
	for name, value := range w.env {
		c.Environ = append(c.Environ, name+"="+strings.ReplaceAll(value, "TOKEN", secret))
	}
	c.Home, c.BitbucketProxy = home, bitbucket.Listener.Addr().String()
	var out, asJSON bytes.Buffer
	err := Run(t.Context(), *c, &out)
	c.JSON = true
	if errJSON := Run(t.Context(), *c, &asJSON); !errors.Is(errJSON, err) {
		t.Errorf("the status is %v, and with --json %v", err, errJSON)
	}
	var decoded struct{ Checks []Check }
	if e := json.Unmarshal(asJSON.Bytes(), &decoded); e != nil {
		t.Fatal(e)
	}
	if failed := slices.ContainsFunc(decoded.Checks, func(c Check) bool { return c.Outcome == Failed }); failed != errors.Is(err, ErrFailed) {
		t.Errorf("a check failed: %t, and the status is %v", failed, err)
	}
	for _, part := range strings.Split(secret, ".") {
		if len(part) > 8 && strings.Contains(out.String()+asJSON.String(), part) {
			t.Errorf("the output contains a part of the token:\n%s", out.String())
		}
	}
	if i := strings.IndexFunc(out.String(), func(r rune) bool { return r != '\n' && (r < ' ' || r > '~') }); i >= 0 {
		t.Errorf("the output has %q", out.String()[i])
	}
	return decoded.Checks, out.String()
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestHealthyStep(t *testing.T) {
	t.Parallel()
	checks, output := newWorld(t).examine(t)
	if len(checks) < 13 {
		t.Errorf("%d checks", len(checks))
	}
	for _, c := range checks {
		if c.Outcome != OK {
			t.Errorf("%s: %s %s", c.Name, c.Outcome, c.Detail)
		}
	}
	if lines := strings.Count(output, "\n"); lines != len(checks) {
		t.Errorf("%d lines for %d checks", lines, len(checks))
	}
}

// TestFaults: each fault fails its check, with a remedy.
func TestFaults(t *testing.T) {
	t.Parallel()
	for name, c := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c.change(w)
			checks, output := w.examine(t)
			i := slices.IndexFunc(checks, func(check Check) bool {
				return check.Name == c.check && check.Outcome == c.outcome && strings.Contains(check.Detail, c.detail)
			})
			if i < 0 {
				t.Fatalf("no %s of %s with %q:\n%s", c.outcome, c.check, c.detail, output)
			}
			if checks[i].Remedy == "" {
				t.Error("there is no remedy")
			}
		})
	}
}

// TestUnsetToken: where only the forwarder has the token, the server is asked through it.
func TestUnsetToken(t *testing.T) {
	t.Parallel()
	for outcome, problem := range map[string]error{OK: nil, Failed: errors.New("credential_expired")} {
		w := newWorld(t)
		w.config.Token = source{err: errors.New("unset")}
		w.config.Step = func(context.Context) (*stepapi.Step, error) {
			return &stepapi.Step{Principal: stepapi.Principal{Repository: "acme/payments"}, Mode: stepapi.ModeEnforce}, problem
		}
		w.config.Evaluate = func(_ context.Context, targets []string) (*stepapi.Evaluations, error) {
			return &stepapi.Evaluations{Evaluations: []stepapi.Evaluation{{Target: targets[0], Verdict: stepapi.VerdictDeny, Reason: "no_rule_matched"}}}, nil
		}
		checks, output := w.examine(t)
		target := Failed
		if problem != nil {
			target = Skipped // no target is evaluated for a token that is not accepted
		}
		for name, want := range map[string]string{"token": Skipped, "server": outcome, "target": target} {
			if !slices.ContainsFunc(checks, func(c Check) bool { return c.Name == name && c.Outcome == want }) {
				t.Errorf("%s is not %s:\n%s", name, want, output)
			}
		}
	}
}

// TestRedactionIsNeeded: without the redaction the text of the hostile server of [refuse]
// shows the token.
func TestRedactionIsNeeded(t *testing.T) {
	t.Parallel()
	secret := jwt("RS256", map[string]any{"iss": "x"})
	parsed, err := token.Parse(secret)
	if err != nil {
		t.Fatal(err)
	}
	with, without := &examination{secret: parsed}, &examination{}
	for _, x := range []*examination{with, without} {
		x.fail("server", "remedy", "it is %s", secret)
	}
	if strings.Contains(with.checks[0].Detail, secret) || !strings.Contains(without.checks[0].Detail, secret) {
		t.Errorf("%q, %q", with.checks[0].Detail, without.checks[0].Detail)
	}
}

func FuzzParseClaims(f *testing.F) {
	f.Add(jwt("RS256", map[string]any{"iss": "x", "aud": []string{"a"}, "exp": 1e300}))
	f.Add("a.b.c")
	f.Add("..")
	f.Add(jwt("none", map[string]any{"aud": 1}))
	f.Fuzz(func(t *testing.T, text string) {
		if _, c, err := parseClaims(text); (err == nil) != (c != nil) || err != nil && strings.Contains(err.Error(), text) && len(text) > 8 {
			t.Errorf("%v, %v", c, err)
		}
	})
}
