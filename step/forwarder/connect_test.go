package forwarder

import (
	"net/http"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/proxytest"
	"github.com/sallyport/sallyport/step/internal/steptest"
)

// TestConnect: bytes that come together with the CONNECT reach the target, and the end of
// each direction is passed on.
func TestConnect(t *testing.T) {
	t.Parallel()
	e := start(t, nil)
	target := proxytest.Serve(t, proxytest.Echo)
	c := e.dial(t).send("CONNECT allowed.test:" + target.Port + " HTTP/1.1\r\nHost: x\r\n\r\nearly")
	resp, _ := c.answer(http.MethodConnect)
	if resp.StatusCode != 200 || resp.Header.Get("Proxy-Status") == "" {
		t.Fatalf("%v %v", resp.Status, resp.Header)
	}
	c.expect("early")
	c.send("late").expect("late")
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest := c.rest(); rest != "" {
		t.Errorf("rest %q", rest)
	}
}

// TestConnectDenied: a denial has the reason in its status line, is printed once in one
// line, and is remembered.
func TestConnectDenied(t *testing.T) {
	t.Parallel()
	e := start(t, nil)
	const repeats = 3
	for range 1 + repeats {
		c := e.dial(t).send("CONNECT denied.test:443 HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n")
		resp, text := c.answer(http.MethodConnect)
		if resp.StatusCode != 403 || !strings.Contains(resp.Status, "policy_denied") || !strings.Contains(text, "rule no-denied") {
			t.Fatalf("%s: %q", resp.Status, text)
		}
		if rest := c.rest(); rest != "" {
			t.Errorf("a request behind the refused CONNECT was answered: %q", rest)
		}
	}
	if n := e.sallyport.Decisions(); n != 1 {
		t.Errorf("Sallyport decided %d times", n)
	}
	line := e.printed.line(t, "sallyport: denied denied.test:443: policy_denied: ")
	if strings.Count(e.printed.String(), "\n") != 1 || strings.ContainsAny(line[:len(line)-1], "\r\n\x1b") || !strings.Contains(line, "; decision ") {
		t.Errorf("printed %q", e.printed.String())
	}
	r := e.Report()
	if len(r.Refusals) != 1 || r.Refusals[0].Repeats != repeats || r.Repeats != repeats || r.Denied != 1 {
		t.Errorf("report %+v", r)
	}
	e.dial(t).send("CONNECT " + steptest.Unmatched + ":443 HTTP/1.1\r\n\r\n").answer(http.MethodConnect)
	e.printed.line(t, "no_rule_matched")
}
