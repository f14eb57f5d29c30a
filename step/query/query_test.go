package query

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sallyport/sallyport/internal/stepapi"
	"github.com/sallyport/sallyport/step/token"
)

type fixed string

func (f fixed) Token(context.Context) (token.Token, error)                    { return token.Parse(string(f)) }
func (f fixed) Renew(ctx context.Context, _ token.Token) (token.Token, error) { return f.Token(ctx) }

// newClient returns a client for a server, after a proxy that is not running.
func newClient(t *testing.T, handler http.HandlerFunc) *Client {
	t.Helper()
	server := httptest.NewTLSServer(handler)
	t.Cleanup(server.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := ParseProxy(server.URL, false)
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(Config{Proxies: []Proxy{{Host: "127.0.0.1", Address: "127.0.0.1:9", TLS: true}, p}, CAFile: ca, Token: fixed("eyJ.x.y")})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRequests(t *testing.T) {
	t.Parallel()
	check := &stepapi.NetworkCheck{Results: []stepapi.NetworkResult{{Test: "ipv6", Address: "[2001:db8::1]:443", Network: "tcp6", Outcome: stepapi.OutcomeBlocked}}}
	c := newClient(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Proxy-Authorization") != "Bearer eyJ.x.y" || r.Header.Get("Accept") != "application/json" {
			t.Errorf("%v", r.Header)
		}
		switch {
		case r.Method == http.MethodPost && r.URL.Path == stepapi.PathNetworkCheck:
			b, _ := io.ReadAll(r.Body)
			if got, err := stepapi.ParseNetworkCheck(b); err != nil || got.Results[0] != check.Results[0] {
				t.Errorf("%s: %v", b, err)
			}
			w.WriteHeader(http.StatusNoContent)
		case r.Method == http.MethodGet && r.URL.RequestURI() == "/step?format=json":
			_ = json.NewEncoder(w).Encode(stepapi.Step{Mode: stepapi.ModeReport})
		case r.Method == http.MethodGet && r.URL.RequestURI() == "/step?format=json&to=a.example%3A443&to=b.example%3A80":
			_ = json.NewEncoder(w).Encode(stepapi.Evaluations{Evaluations: make([]stepapi.Evaluation, 2)})
		default:
			t.Errorf("%s %s", r.Method, r.URL)
		}
	})
	if s, err := c.Step(t.Context()); err != nil || s.Mode != stepapi.ModeReport {
		t.Errorf("%+v, %v", s, err)
	}
	if e, err := c.Evaluate(t.Context(), []string{"a.example:443", "b.example:80"}); err != nil || len(e.Evaluations) != 2 {
		t.Errorf("%+v, %v", e, err)
	}
	if err := c.SendNetworkCheck(t.Context(), check); err != nil {
		t.Error(err)
	}
	if err := c.SendNetworkCheck(t.Context(), &stepapi.NetworkCheck{}); err == nil {
		t.Error("a check without results is sent")
	}
	if _, err := c.Evaluate(t.Context(), make([]string, stepapi.MaxTargets+1)); err == nil {
		t.Error("too many targets are sent")
	}
}

// TestResponsesThatAreRefused: a response of a strange server is an error.
func TestResponsesThatAreRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status  int
		reason  string
		content string
		want    string
	}{
		"refusal":   {401, "credential_expired", "sallyport: credential_expired\x1b[2J\n", "sallyport: credential_expired?[2J"},
		"not ours":  {404, "", "not found", "it is not Sallyport"},
		"HTML":      {200, "", "<html>", "not JSON of the expected form"},
		"too long":  {200, "", strings.Repeat(" ", stepapi.MaxResponse+1), "too long"},
		"too few":   {200, "", "{}", "0 decisions for 1 targets"},
		"not a 204": {200, "", "{}", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := newClient(t, func(w http.ResponseWriter, _ *http.Request) {
				if c.reason != "" {
					w.Header().Set(stepapi.FieldReason, c.reason)
				}
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.content)
			})
			_, err := client.Evaluate(t.Context(), []string{"a.example:443"})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %s", err, c.want)
			}
			if r, ok := errors.AsType[*Refusal](err); ok != (c.status != 200) || ok && (r.Status != c.status || r.Reason != c.reason) {
				t.Errorf("%+v", r)
			}
			check := &stepapi.NetworkCheck{Results: []stepapi.NetworkResult{{Test: "ipv6", Address: "a", Network: "tcp6", Outcome: stepapi.OutcomeOpen}}}
			if client.SendNetworkCheck(t.Context(), check) == nil {
				t.Error("the check counts as recorded")
			}
		})
	}
}

// TestRedirectIsNotFollowed: the token goes to the proxy only.
func TestRedirectIsNotFollowed(t *testing.T) {
	t.Parallel()
	var stolen atomic.Bool
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { stolen.Store(true) }))
	t.Cleanup(other.Close)
	redirect := func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, http.StatusFound) }
	c := newClient(t, redirect)
	if _, err := c.Step(t.Context()); err == nil || stolen.Load() {
		t.Errorf("%v, followed: %t", err, stolen.Load())
	}
	c.http.CheckRedirect = nil // the control
	if _, _ = c.Step(t.Context()); !stolen.Load() {
		t.Error("the redirect is not followed without the control either")
	}
}

func TestParseProxy(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"https://egress.example":          "egress.example:443",
		"https://[2001:db8::1]:3129/":     "[2001:db8::1]:3129",
		"http://egress.example:3128":      "",
		"https://step:secret@egress":      "",
		"https://egress.example/path":     "",
		"https://egress.example?x":        "",
		"egress.example:3129":             "",
		"socks5://egress.example:1080":    "",
		"https://":                        "",
		"https://egress.example:3129\x00": "",
	} {
		p, err := ParseProxy(text, false)
		if p.Address != want || (err == nil) != (want != "") || err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %+v, %v", text, p, err)
		}
	}
	if p, err := ParseProxy("http://egress.example", true); err != nil || p.Address != "egress.example:80" || p.TLS {
		t.Errorf("%+v, %v", p, err)
	}
}
