package upstream

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/proxytest"
	"github.com/sallyport/sallyport/step/internal/steptest"
)

// origin is a proxy that responds about itself.
func origin(t *testing.T, respond func(r *http.Request, body string) string) *Client {
	t.Helper()
	s := proxytest.Serve(t, func(c *net.TCPConn) {
		r, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		b, _ := io.ReadAll(r.Body)
		_, _ = io.WriteString(c, respond(r, string(b)))
	})
	c, err := New(Config{Proxies: []string{"http://" + s.Address}, Plaintext: true, Token: static(t, steptest.Token)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func response(status int, fields, body string) string {
	return fmt.Sprintf("HTTP/1.1 %d x\r\n%sContent-Length: %d\r\nConnection: close\r\n\r\n%s", status, fields, len(body), body)
}

// TestStep: the step's token authenticates a request in origin-form, and JSON, a refusal
// and everything else are distinguished.
func TestStep(t *testing.T) {
	t.Parallel()
	c := origin(t, func(r *http.Request, _ string) string {
		if r.RequestURI != "/step?format=json" || r.Header.Get("Proxy-Authorization") != "Bearer "+steptest.Token {
			return response(400, "", "")
		}
		return response(200, "", `{"mode": "report", "requests": {"allowed": 7}}`)
	})
	step, refusal, err := c.Step(t.Context())
	if err != nil || refusal != nil || step.Mode != "report" || step.Requests.Allowed != 7 {
		t.Errorf("%+v, %+v, %v", step, refusal, err)
	}
	c = origin(t, func(*http.Request, string) string {
		return response(401, "Sallyport-Reason: credential_audience\r\n", "sallyport: credential_audience: the audience is another. What to do: set it.\n")
	})
	_, refusal, err = c.Step(t.Context())
	if err != nil || refusal == nil || refusal.Reason != "credential_audience" || refusal.Message != "the audience is another" || refusal.Next != "set it" {
		t.Errorf("%+v, %v", refusal, err)
	}
	for _, bad := range []string{response(200, "", "<html>"), response(404, "", "{}"), response(200, "", strings.Repeat(" ", 1<<20)+"{}"), "", "x\r\n\r\n"} {
		c = origin(t, func(*http.Request, string) string { return bad })
		if step, _, err := c.Step(t.Context()); err == nil || strings.Contains(err.Error(), steptest.Token) {
			t.Errorf("%.40q: %+v, %v", bad, step, err)
		}
	}
}

// TestPost: content reaches the proxy as JSON.
func TestPost(t *testing.T) {
	t.Parallel()
	c := origin(t, func(r *http.Request, body string) string {
		if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" {
			return response(400, "", "")
		}
		return response(200, "", body)
	})
	r, refusal, err := c.Post(t.Context(), "/step/network-check", []byte(`{}`), 100)
	if err != nil || refusal != nil || string(r.Body) != "{}" || r.Status != 200 {
		t.Errorf("%+v, %+v, %v", r, refusal, err)
	}
}

// TestParseRefusal: the parts of the server's text are found, whatever they contain.
func TestParseRefusal(t *testing.T) {
	t.Parallel()
	fields := http.Header{"Sallyport-Reason": {"policy_denied"}, "Sallyport-Rule": {"r"}, "Sallyport-Decision": {"d"}}
	for text, want := range map[string]Refusal{
		"sallyport: policy_denied: a (b): c. What to do: x. What to do: y (rule r, decision d). What to do: ask.\n": {Message: "a (b): c. What to do: x. What to do: y", Next: "ask"},
		"sallyport: policy_denied (rule r, decision d). What to do: ask.\n":                                         {Next: "ask"},
		"":               {},
		"something else": {Message: "something else"},
	} {
		got := ParseRefusal(403, fields, text)
		if got.Message != want.Message || got.Next != want.Next || got.Rule != "r" || got.DecisionID != "d" || !got.ByPolicy() {
			t.Errorf("%q: %+v", text, got)
		}
	}
}
