package frontend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/proxytest"
	"github.com/sallyport/sallyport/policy"
)

// Denials is what this memory version of the log has on a step.
func (k *keeper) Denials(_ context.Context, p *identity.Principal, limit int) ([]audit.Event, error) {
	if k.away.Load() {
		return nil, errors.New("10.11.12.13 does not answer")
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	var list []audit.Event
	allowed := map[string]*audit.Event{}
	for _, e := range k.events {
		if e.Verdict == "allow" && e.StepUUID == p.Step.UUID {
			allowed[e.DecisionID] = e
		}
	}
	for _, e := range slices.Backward(k.events) {
		if d := allowed[e.DecisionID]; d != nil && e.CloseReason != "" && e.CloseReason != "finished" {
			closed := *e
			closed.Host, closed.Port, closed.Action, closed.Rule = d.Host, d.Port, d.Action, d.Rule
			list = append(list, closed)
		}
		if e.Verdict == "deny" && e.StepUUID == p.Step.UUID && len(list) < limit {
			list = append(list, *e)
		}
	}
	return list, nil
}

func withDenials(s *env, c *Config, _ *ListenerConfig) {
	c.Denials, c.Authenticator = s.keeper, s.keeper
}

func get(path, fields string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: proxy.test:3128\r\n" + fields + "\r\n"
}

// TestDenials reads a step's refusals on the listener, as text and as JSON, and
// finds nothing of what another step of the same repository was refused.
func TestDenials(t *testing.T) {
	s := start(t, withDenials)
	s.dial(t).send("CONNECT denied.test:443 HTTP/1.1\r\n" + good + "\r\n").rest()
	s.dial(t).send("GET http://denied.test/secret?query HTTP/1.1\r\nHost: x\r\n" + basic("other") + "\r\n").rest()
	own := s.await(t, 2)[0]

	for name, fields := range map[string]string{
		"Proxy-Authorization, Basic":  good,
		"Proxy-Authorization, Bearer": "Proxy-Authorization: Bearer good\r\n",
		"Authorization, Basic":        strings.TrimPrefix(good, "Proxy-"),
		"Authorization, Bearer":       "Authorization: Bearer good\r\n",
	} {
		resp, body := s.dial(t).send(get("/denials", fields)).answer("GET")
		if resp.StatusCode != 200 || !resp.Close || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") || resp.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %s %v", name, resp.Status, resp.Header)
		}
		if strings.Count(body, "\n") != 1 || !strings.Contains(body, " 403 policy_denied denied.test:443: ask \"them\"??Injected: yes (rule no-denied, decision "+own.DecisionID+"). What to do: ") {
			t.Errorf("%s: %s", name, body)
		}
	}
	for name, raw := range map[string]string{
		"Accept": get("/denials", good+"Accept: text/html, application/json;q=0.9\r\n"),
		"format": get("/denials?format=json", good),
	} {
		resp, body := s.dial(t).send(raw).answer("GET")
		var got struct {
			Denials []map[string]any
			More    bool
		}
		if err := json.Unmarshal([]byte(body), &got); err != nil || resp.Header.Get("Content-Type") != "application/json" || got.More {
			t.Fatalf("%s: %v %s", name, err, body)
		}
		if len(got.Denials) != 1 || got.Denials[0]["decision_id"] != own.DecisionID || got.Denials[0]["rule"] != "no-denied" ||
			got.Denials[0]["target"] != "denied.test:443" || got.Denials[0]["reason"] != "policy_denied" || got.Denials[0]["next"] == "" {
			t.Errorf("%s: %s", name, body)
		}
	}
	resp, body := s.dial(t).send(strings.Replace(get("/denials", good), "GET", "HEAD", 1)).answer("HEAD")
	if resp.StatusCode != 200 || body != "" || resp.ContentLength < 100 {
		t.Errorf("HEAD: %s %d %q", resp.Status, resp.ContentLength, body)
	}
	if n := len(s.kinds()); n != 2 {
		t.Errorf("reading was recorded: %v", s.kinds())
	}
	if s.server.DenialsRead() != 7 {
		t.Errorf("counted %d", s.server.DenialsRead())
	}
}

func TestDenialsAreBounded(t *testing.T) {
	s := start(t, withDenials)
	for i := range maxDenials + 5 {
		_ = s.Record(t.Context(), &audit.Event{Time: time.Now(), Verdict: "deny", StepUUID: "step-good", Reason: "no_rule_matched", DecisionID: fmt.Sprint(i)})
	}
	_, body := s.dial(t).send(get("/denials", good)).answer("GET")
	lines := strings.Split(strings.TrimSpace(body), "\n")
	if len(lines) != maxDenials+1 || !strings.Contains(lines[0], "there are more") || !strings.Contains(lines[maxDenials], "decision 104)") {
		t.Errorf("%d lines, from %q to %q", len(lines), lines[0], lines[len(lines)-1])
	}
	if _, body := s.dial(t).send(get("/denials", basic("other"))).answer("GET"); body != "sallyport: nothing was refused to this step, and none of its tunnels was closed\n" {
		t.Errorf("a step without refusals reads %q", body)
	}
}

// A client that is not a known step reads nothing, and gets the response of an origin
// server: 401 and not 407, and without a Proxy-Status.
func TestDenialsRefused(t *testing.T) {
	s := start(t, withDenials)
	for _, test := range []struct {
		name, raw, reason string
		status            int
	}{
		{"no credential", get("/denials", ""), "credential_missing", 401},
		{"a bad token", get("/denials", basic("forged")), "credential_signature", 401},
		{"an unset variable", get("/denials", "Authorization: Bearer \r\n"), "credential_malformed", 401},
		{"two credentials", get("/denials", good+"Authorization: Bearer good\r\n"), "credential_ambiguous", 400},
		{"two of a kind", get("/denials", "Authorization: Bearer good\r\nAuthorization: Bearer other\r\n"), "credential_ambiguous", 400},
		{"two for a proxy", get("/denials", good+good), "credential_ambiguous", 400},
		{"another method", strings.Replace(get("/denials", good), "GET", "DELETE", 1), "request_invalid", 405},
		{"a body", get("/denials", good+"Content-Length: 1\r\n") + "x", "request_invalid", 400},
		{"another query", get("/denials?step=other", good), "request_invalid", 400},
		{"another resource", get("/denials/", good), "request_invalid", 400},
		{"the root", get("/", good), "request_invalid", 400},
	} {
		t.Run(test.name, func(t *testing.T) {
			resp, body := s.dial(t).send(test.raw).answer("GET")
			if resp.StatusCode != test.status || resp.Header.Get("Sallyport-Reason") != test.reason || !resp.Close {
				t.Errorf("%s %v %s", resp.Status, resp.Header, body)
			}
			if (resp.StatusCode == 401) != (resp.Header.Get("WWW-Authenticate") != "") || resp.Header.Get("Proxy-Authenticate") != "" {
				t.Errorf("%v", resp.Header)
			}
			if resp.StatusCode == 401 && resp.Header.Get("Proxy-Status") != "" {
				t.Errorf("an origin server's answer has a Proxy-Status")
			}
		})
	}
	s.away.Store(true)
	resp, body := s.dial(t).send(get("/denials", good)).answer("GET")
	if resp.StatusCode != 503 || resp.Header.Get("Sallyport-Reason") != "audit_unavailable" || strings.Contains(body, "10.11") {
		t.Errorf("with the log away: %s %s", resp.Status, body)
	}
	s.gate.Stop()
	if resp, _ := s.dial(t).send(get("/denials", good)).answer("GET"); resp.Header.Get("Sallyport-Reason") != "emergency_stop" {
		t.Errorf("during an emergency stop: %s", resp.Status)
	}
	if len(s.kinds()) != 0 {
		t.Errorf("recorded: %v", s.kinds())
	}
}

// TestClosesAreDenials: a step reads why its tunnel was cut, which its client
// cannot show.
func TestClosesAreDenials(t *testing.T) {
	target := proxytest.Serve(t, proxytest.Echo)
	s := start(t, func(s *env, c *Config, lc *ListenerConfig) {
		withDenials(s, c, lc)
		s.protocol = policy.ProtocolTLS
	})
	c := s.dial(t).send("CONNECT up.test:" + target.Port + " HTTP/1.1\r\n" + good + "\r\n")
	c.answer("CONNECT")
	_, _ = io.ReadAll(c.send("SSH-2.0-x\r\n").r)
	decision := s.await(t, 2)[0]
	_, body := s.dial(t).send(get("/denials", good)).answer("GET")
	if want := " closed hello_invalid up.test:" + target.Port + ": the tunnel does not start with TLS (rule test-allow, decision " + decision.DecisionID + "). What to do: use TLS to "; strings.Count(body, "\n") != 1 || !strings.Contains(body, want) {
		t.Errorf("%s", body)
	}
	_, body = s.dial(t).send(get("/denials?format=json", good)).answer("GET")
	if !strings.Contains(body, `"kind": "closed"`) || !strings.Contains(body, `"reason": "hello_invalid"`) || strings.Contains(body, `"status"`) {
		t.Errorf("%s", body)
	}
	if _, body := s.dial(t).send(get("/denials", basic("other"))).answer("GET"); strings.Contains(body, "hello_invalid") {
		t.Errorf("another step reads %s", body)
	}
}

// stuck is a log that does not answer until it is released.
type stuck struct {
	release chan struct{}
	reading atomic.Int32
}

func (l *stuck) Denials(ctx context.Context, p *identity.Principal, _ int) ([]audit.Event, error) {
	if p.Step.UUID != "step-good" {
		return nil, nil
	}
	l.reading.Add(1)
	defer l.reading.Add(-1)
	select {
	case <-l.release:
	case <-ctx.Done():
	}
	return nil, ctx.Err()
}

// TestDenialReadsAreShared: a step whose reads take long has one read in progress and four
// that wait. Further reads are refused, and another step's read is answered.
func TestDenialReadsAreShared(t *testing.T) {
	shared := denialReads
	denialReads.Wait = time.Minute // the accepted reads wait for as long as this test takes
	t.Cleanup(func() { denialReads = shared })
	log := &stuck{release: make(chan struct{})}
	s := start(t, func(s *env, c *Config, _ *ListenerConfig) { c.Denials, c.Authenticator = log, s.keeper })
	var accepted []*client
	for waiting := range 5 {
		accepted = append(accepted, s.dial(t).send(get("/denials", good)))
		proxytest.Eventually(t, "the read waits", func() bool { return log.reading.Load() == 1 && s.server.reading.Waiting() == waiting })
	}
	var over []*client // their refusals are delayed, all at once
	for range 15 {
		over = append(over, s.dial(t).send(get("/denials", good)))
	}
	for _, c := range over {
		if resp, _ := c.answer("GET"); resp.StatusCode != 429 || resp.Header.Get("Sallyport-Reason") != "step_limit" {
			t.Errorf("a read over the limit: %s", resp.Status)
		}
	}
	if resp, body := s.dial(t).send(get("/denials", basic("other"))).answer("GET"); resp.StatusCode != 200 {
		t.Errorf("another step: %s %s", resp.Status, body)
	}
	close(log.release)
	for _, c := range accepted {
		if resp, _ := c.answer("GET"); resp.StatusCode != 200 {
			t.Errorf("an accepted read: %s", resp.Status)
		}
	}
}

// TestDenialsCountRepeats: a step reads how often it was refused again under one id.
func TestDenialsCountRepeats(t *testing.T) {
	list := []audit.Event{
		{Kind: audit.KindDecision, DecisionID: "first", Reason: "no_rule_matched", Host: "a.test", Port: 443, Status: 403, Attributes: []audit.Attribute{{Name: audit.Repeats, Value: "95"}}},
		{Kind: audit.KindDecision, DecisionID: "second", Reason: "no_rule_matched", Host: "b.test", Port: 443, Status: 403},
	}
	if text := string(denialsText(list, false, false)); !strings.Contains(text, "refused 95 more times, decision first)") || strings.Count(text, "more times") != 1 {
		t.Errorf("%s", text)
	}
	if text := string(denialsJSON(list, false, false)); !strings.Contains(text, `"repeats": 95`) || strings.Count(text, "repeats") != 1 {
		t.Errorf("%s", text)
	}
}
