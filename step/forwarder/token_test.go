package forwarder

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/proxytest"
	"github.com/sallyport/sallyport/step/internal/steptest"
	"github.com/sallyport/sallyport/step/token"
)

// encodings are the forms in which a token would be found.
func encodings(token string) []string {
	return []string{token, base64.StdEncoding.EncodeToString([]byte("step:" + token)), base64.StdEncoding.EncodeToString([]byte(token)), strings.Split(token, ".")[1]}
}

// TestTokenStaysInside: no byte to a tool or a target, no log line, no printed line, no
// report and no error contains the token, in requests of every kind and outcome.
func TestTokenStaysInside(t *testing.T) {
	t.Parallel()
	s := steptest.Start(t)
	e := startAt(t, s, func(c *Config, u *upstreamConfig) { u.RetryFor, c.RememberFor = 50*time.Millisecond, -1 })
	received := &output{} // by targets
	raw := proxytest.Serve(t, func(c *net.TCPConn) {
		b := make([]byte, 4096)
		n, _ := c.Read(b)
		_, _ = received.Write(b[:n])
		_, _ = c.Write([]byte("HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=x\r\nSallyport-Reason: forged\r\nContent-Length: 7\r\nConnection: close\r\n\r\nmarker2"))
	})
	requests := []string{
		"CONNECT allowed.test:" + raw.Port + " HTTP/1.1\r\n\r\nmarker1",
		"GET http://allowed.test:" + raw.Port + "/marker3 HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST http://allowed.test:" + raw.Port + "/ HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nxy",
		"TRACE http://allowed.test:" + raw.Port + "/ HTTP/1.1\r\nHost: x\r\n\r\n",
		"CONNECT denied.test:443 HTTP/1.0\r\n\r\n", "CONNECT denied.test:443 HTTP/1.1\r\n\r\n", "CONNECT / HTTP/1.1\r\n\r\n",
		"CONNECT unresolved.test:443 HTTP/1.1\r\n\r\n", "CONNECT allowed.test:1 HTTP/1.1\r\n\r\n",
		"GET http://denied.test/ HTTP/1.1\r\nHost: x\r\n\r\n", "GET http://allowed.test:1/ HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET http://127.1/ HTTP/1.1\r\nHost: x\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "nonsense\r\n\r\n",
		socksRequest("allowed.test", raw.Port) + "marker4", socksRequest("denied.test", "443"), "\x04", "\x16\x03",
	}
	tools := &output{}
	run := func() {
		for _, r := range requests {
			c := e.dial(t).send(r)
			_ = c.CloseWrite()
			b := make([]byte, 64<<10)
			for n, err := 0, error(nil); err == nil; n, err = c.r.Read(b) {
				_, _ = tools.Write(b[:n])
			}
		}
	}
	run()
	s.Stop()
	run()
	_, _, errConnect := e.config.Upstream.Connect(t.Context(), "allowed.test:443")
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://allowed.test/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, errRequest := e.config.Upstream.RoundTrip(request)
	if errRequest == nil {
		_ = resp.Body.Close()
	}
	if errConnect == nil || errRequest == nil {
		t.Error("a stopped proxy responded")
	}
	s.Restart()
	s.Expire(steptest.Token)
	run()
	everything := map[string]string{
		"tools": tools.String(), "targets": received.String(), "log": e.log.String(), "printed": e.printed.String(),
		"report": fmt.Sprintf("%+v", e.Report()), "forwarder": fmt.Sprintf("%+v", e.config), "errors": fmt.Sprint(errConnect, errRequest),
	}
	for name, text := range everything {
		if text == "" {
			t.Errorf("%s: nothing was captured", name)
		}
		for _, secret := range encodings(steptest.Token) {
			if strings.Contains(text, secret) {
				t.Errorf("%s contain the token: %.2000s", name, text)
			}
		}
	}
	for _, marker := range []string{"marker1", "marker3", "marker4"} {
		if !strings.Contains(everything["targets"], marker) {
			t.Errorf("the search did not cover the targets: no %s", marker)
		}
	}
	if !strings.Contains(everything["tools"], "marker2") {
		t.Error("the search did not cover the tools")
	}
}

// TestTokenSearchIsNeeded: the search finds a token that reaches a target.
func TestTokenSearchIsNeeded(t *testing.T) {
	t.Parallel()
	parsed, err := token.Parse(steptest.Token)
	if err != nil {
		t.Fatal(err)
	}
	leak := "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("step:"+parsed.Reveal()))
	found := false
	for _, secret := range encodings(steptest.Token) {
		found = found || strings.Contains(leak, secret)
	}
	if !found {
		t.Error("a credential in Basic form is not found")
	}
}
