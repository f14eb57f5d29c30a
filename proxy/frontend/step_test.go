package frontend

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/fair"
	"github.com/sallyport/sallyport/internal/proxytest"
	"github.com/sallyport/sallyport/internal/stepapi"
	"github.com/sallyport/sallyport/internal/stepbinaries"
	"github.com/sallyport/sallyport/policy"
)

// Step is what this memory version of the log has on a step.
func (k *keeper) Step(_ context.Context, p *identity.Principal, limit int) ([]stepapi.Entry, stepapi.Requests, error) {
	if k.away.Load() {
		return nil, stepapi.Requests{}, errors.New("10.11.12.13 does not answer")
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	var list, passed []stepapi.Entry
	var counts stepapi.Requests
	allowed := map[string]*audit.Event{}
	for _, e := range k.events {
		if e.Kind == audit.KindDecision && e.Verdict == "allow" && e.StepUUID == p.Step.UUID {
			allowed[e.DecisionID] = e
			counts.Allowed++
			passed = append(passed, entryOf(stepapi.KindAllowed, e, e))
		}
	}
	for _, e := range slices.Backward(k.events) {
		switch d := allowed[e.DecisionID]; {
		case d != nil && e.Kind == audit.KindWouldClose:
			counts.WouldClose++
			list = append(list, entryOf(stepapi.KindWouldClose, e, d))
		case d != nil && e.CloseReason != "" && e.CloseReason != "finished":
			counts.Closed++
			list = append(list, entryOf(stepapi.KindClosed, e, d))
		case e.Kind == audit.KindDecision && e.Verdict == "deny" && e.StepUUID == p.Step.UUID:
			counts.Denied++
			if len(list) < limit {
				list = append(list, entryOf(stepapi.KindRefused, e, e))
			}
		}
	}
	return append(list, passed...), counts, nil
}

// entryOf is the entry of an event about the request of a decision.
func entryOf(kind string, e, d *audit.Event) stepapi.Entry {
	entry := stepapi.Entry{Time: e.Time, Kind: kind, Status: e.Status, Reason: e.Reason, CloseReason: e.CloseReason, Message: e.Message, Rule: d.Rule,
		DecisionID: e.DecisionID, Action: d.Action, Target: net.JoinHostPort(d.Host, fmt.Sprint(d.Port))}
	if kind != stepapi.KindRefused {
		entry.Status = 0
	}
	if e.CloseReason != "" {
		entry.Reason = ""
	}
	return entry
}

func withSteps(s *env, c *Config, _ *ListenerConfig) {
	c.Steps, c.Authenticator = s.keeper, s.keeper
}

func get(path, fields string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: proxy.test:3128\r\n" + fields + "\r\n"
}

// TestStep reads a step's refusals on the listener, as text and as JSON, and
// finds nothing of what another step of the same repository was refused.
func TestStep(t *testing.T) {
	s := start(t, withSteps)
	s.dial(t).send("CONNECT denied.test:443 HTTP/1.1\r\n" + good + "\r\n").rest()
	s.dial(t).send("GET http://denied.test/secret?query HTTP/1.1\r\nHost: x\r\n" + basic("other") + "\r\n").rest()
	own := s.await(t, 2)[0]

	for name, fields := range map[string]string{
		"Proxy-Authorization, Basic":  good,
		"Proxy-Authorization, Bearer": "Proxy-Authorization: Bearer good\r\n",
		"Authorization, Basic":        strings.TrimPrefix(good, "Proxy-"),
		"Authorization, Bearer":       "Authorization: Bearer good\r\n",
	} {
		resp, body := s.dial(t).send(get("/step", fields)).answer("GET")
		if resp.StatusCode != 200 || !resp.Close || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") || resp.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %s %v", name, resp.Status, resp.Header)
		}
		if strings.Count(body, "\n") != 3 || !strings.HasPrefix(body, "sallyport: step step-good of ") || !strings.Contains(body, "0 requests allowed, 1 denied, 0 closed\n") || !strings.Contains(body, " 403 policy_denied denied.test:443: ask \"them\"??Injected: yes (rule no-denied, decision "+own.DecisionID+"). What to do: ") {
			t.Errorf("%s: %s", name, body)
		}
	}
	for name, raw := range map[string]string{
		"Accept": get("/step", good+"Accept: text/html, application/json;q=0.9\r\n"),
		"format": get("/step?format=json", good),
	} {
		resp, body := s.dial(t).send(raw).answer("GET")
		var got stepapi.Step
		if err := json.Unmarshal([]byte(body), &got); err != nil || resp.Header.Get("Content-Type") != "application/json" || got.More {
			t.Fatalf("%s: %v %s", name, err, body)
		}
		if got.Principal.StepUUID != "step-good" || got.Mode != stepapi.ModeEnforce || got.Requests != (stepapi.Requests{Denied: 1}) {
			t.Errorf("%s: %+v", name, got)
		}
		e := got.Entries[0]
		if len(got.Entries) != 1 || e.Kind != stepapi.KindRefused || e.DecisionID != own.DecisionID || e.Rule != "no-denied" || e.Target != "denied.test:443" || e.Reason != "policy_denied" || e.Next == "" {
			t.Errorf("%s: %s", name, body)
		}
	}
	resp, body := s.dial(t).send(strings.Replace(get("/step", good), "GET", "HEAD", 1)).answer("HEAD")
	if resp.StatusCode != 200 || body != "" || resp.ContentLength < 100 {
		t.Errorf("HEAD: %s %d %q", resp.Status, resp.ContentLength, body)
	}
	if n := len(s.kinds()); n != 2 {
		t.Errorf("reading was recorded: %v", s.kinds())
	}
	if s.server.StepReads() != 7 {
		t.Errorf("counted %d", s.server.StepReads())
	}
}

func TestStepIsBounded(t *testing.T) {
	s := start(t, withSteps)
	for i := range stepapi.MaxEntries + 5 {
		_ = s.Record(t.Context(), &audit.Event{Kind: audit.KindDecision, Time: time.Now(), Verdict: "deny", StepUUID: "step-good", Reason: "no_rule_matched", DecisionID: fmt.Sprint(i)})
	}
	_, body := s.dial(t).send(get("/step", good)).answer("GET")
	lines := strings.Split(strings.TrimSpace(body), "\n")
	if len(lines) != stepapi.MaxEntries+3 || !strings.Contains(lines[2], "there are more") || !strings.Contains(lines[stepapi.MaxEntries+2], "decision 104)") {
		t.Errorf("%d lines, from %q to %q", len(lines), lines[0], lines[len(lines)-1])
	}
	if _, body := s.dial(t).send(get("/step", basic("other"))).answer("GET"); !strings.HasSuffix(body, "sallyport: nothing was refused to this step, and none of its tunnels was closed\n") || strings.Count(body, "\n") != 3 {
		t.Errorf("a step without refusals reads %q", body)
	}
}

// A client that is not a known step reads nothing, and gets the response of an origin
// server: 401 and not 407, and without a Proxy-Status.
func TestStepRefused(t *testing.T) {
	s := start(t, withSteps)
	for _, test := range []struct {
		name, raw, reason string
		status            int
	}{
		{"no credential", get("/step", ""), "credential_missing", 401},
		{"a bad token", get("/step", basic("forged")), "credential_signature", 401},
		{"an unset variable", get("/step", "Authorization: Bearer \r\n"), "credential_malformed", 401},
		{"two credentials", get("/step", good+"Authorization: Bearer good\r\n"), "credential_ambiguous", 400},
		{"two of a kind", get("/step", "Authorization: Bearer good\r\nAuthorization: Bearer other\r\n"), "credential_ambiguous", 400},
		{"two for a proxy", get("/step", good+good), "credential_ambiguous", 400},
		{"another method", strings.Replace(get("/step", good), "GET", "DELETE", 1), "request_invalid", 405},
		{"a body", get("/step", good+"Content-Length: 1\r\n") + "x", "request_invalid", 400},
		{"another query", get("/step?step=other", good), "request_invalid", 400},
		{"another resource", get("/step/", good), "request_invalid", 400},
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
	resp, body := s.dial(t).send(get("/step", good)).answer("GET")
	if resp.StatusCode != 503 || resp.Header.Get("Sallyport-Reason") != "audit_unavailable" || strings.Contains(body, "10.11") {
		t.Errorf("with the log away: %s %s", resp.Status, body)
	}
	s.gate.Stop()
	if resp, _ := s.dial(t).send(get("/step", good)).answer("GET"); resp.Header.Get("Sallyport-Reason") != "emergency_stop" {
		t.Errorf("during an emergency stop: %s", resp.Status)
	}
	if len(s.kinds()) != 0 {
		t.Errorf("recorded: %v", s.kinds())
	}
}

// TestStepReadsCloses: a step reads why its tunnel was cut, which its client
// cannot show.
func TestStepReadsCloses(t *testing.T) {
	target := proxytest.Serve(t, proxytest.Echo)
	s := start(t, func(s *env, c *Config, lc *ListenerConfig) {
		withSteps(s, c, lc)
		s.protocol = policy.ProtocolTLS
	})
	c := s.dial(t).send("CONNECT up.test:" + target.Port + " HTTP/1.1\r\n" + good + "\r\n")
	c.answer("CONNECT")
	_, _ = io.ReadAll(c.send("SSH-2.0-x\r\n").r)
	decision := s.await(t, 2)[0]
	_, body := s.dial(t).send(get("/step", good)).answer("GET")
	if want := " closed hello_invalid up.test:" + target.Port + ": the tunnel does not start with TLS (rule test-allow, decision " + decision.DecisionID + "). What to do: use TLS to "; strings.Count(body, "\n") != 4 || !strings.Contains(body, want) {
		t.Errorf("%s", body)
	}
	_, body = s.dial(t).send(get("/step?format=json", good)).answer("GET")
	if !strings.Contains(body, `"kind": "closed"`) || !strings.Contains(body, `"close_reason": "hello_invalid"`) || strings.Contains(body, `"status"`) {
		t.Errorf("%s", body)
	}
	if _, body := s.dial(t).send(get("/step", basic("other"))).answer("GET"); strings.Contains(body, "hello_invalid") {
		t.Errorf("another step reads %s", body)
	}
}

// stuck is a log that does not answer until it is released.
type stuck struct {
	release chan struct{}
	reading atomic.Int32
}

func (l *stuck) Step(ctx context.Context, p *identity.Principal, _ int) ([]stepapi.Entry, stepapi.Requests, error) {
	if p.Step.UUID != "step-good" {
		return nil, stepapi.Requests{}, nil
	}
	l.reading.Add(1)
	defer l.reading.Add(-1)
	select {
	case <-l.release:
	case <-ctx.Done():
	}
	return nil, stepapi.Requests{}, ctx.Err()
}

// TestStepReadsAreShared: a step whose reads take long has one read in progress and four
// that wait. Further reads are refused, and another step's read is answered.
func TestStepReadsAreShared(t *testing.T) {
	shared := stepRequests
	stepRequests.Wait = time.Minute // the accepted reads wait for as long as this test takes
	t.Cleanup(func() { stepRequests = shared })
	log := &stuck{release: make(chan struct{})}
	s := start(t, func(s *env, c *Config, _ *ListenerConfig) { c.Steps, c.Authenticator = log, s.keeper })
	var accepted []*client
	for waiting := range 5 {
		accepted = append(accepted, s.dial(t).send(get("/step", good)))
		proxytest.Eventually(t, "the read waits", func() bool { return log.reading.Load() == 1 && s.server.reading.Waiting() == waiting })
	}
	var over []*client // their refusals are delayed, all at once
	for range 15 {
		over = append(over, s.dial(t).send(get("/step", good)))
	}
	for _, c := range over {
		if resp, _ := c.answer("GET"); resp.StatusCode != 429 || resp.Header.Get("Sallyport-Reason") != "step_limit" {
			t.Errorf("a read over the limit: %s", resp.Status)
		}
	}
	if resp, body := s.dial(t).send(get("/step", basic("other"))).answer("GET"); resp.StatusCode != 200 {
		t.Errorf("another step: %s %s", resp.Status, body)
	}
	close(log.release)
	for _, c := range accepted {
		if resp, _ := c.answer("GET"); resp.StatusCode != 200 {
			t.Errorf("an accepted read: %s", resp.Status)
		}
	}
}

// TestStepText: the text has all kinds of entries, the problems last, and is of printable
// ASCII, whatever hosts and messages contain.
func TestStepText(t *testing.T) {
	at := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	step := &stepapi.Step{
		Principal:    stepapi.Principal{StepUUID: "s", Repository: "acme/payments", Deployment: "production"},
		TokenExpires: at.Add(time.Hour), Mode: stepapi.ModeReport, More: true,
		Requests: stepapi.Requests{Allowed: 12, Denied: 96, Closed: 1, WouldDeny: 2, WouldClose: 1, AtLeast: true},
		Entries: []stepapi.Entry{
			{Time: at, Kind: stepapi.KindRefused, Status: 403, Reason: "no_rule_matched", Target: "a.test:443", DecisionID: "first", Repeats: 95, Next: "ask"},
			{Time: at, Kind: stepapi.KindAllowed, Reason: "policy_allowed", Rule: "registries", Target: "r.test:443", DecisionID: "x", Repeats: 9, BytesSent: 10, BytesReceived: 20},
			{Time: at, Kind: stepapi.KindAllowed, Reason: "policy_allowed", Target: "once.test:443", DecisionID: "x"},
			{Time: at, Kind: stepapi.KindWouldDeny, Reason: "no_rule_matched", Rule: "observed", Target: "b.test:443", DecisionID: "second", Repeats: 1, Next: "ask"},
			{Time: at, Kind: stepapi.KindWouldClose, CloseReason: "hello_encrypted", Message: "a\x1b[2Jb\nc\u202e", Target: "c.test:443", DecisionID: "third", Next: "disable"},
		},
	}
	want := `sallyport: step s of acme/payments, deployment production; report mode; token valid until 2026-11-30T13:00:00Z
sallyport: 12 requests allowed, 96 denied, 1 closed; only report mode allowed 2; enforce mode would close 1; at least, because the repository made many requests
sallyport: there are more; these are the latest
allowed r.test:443 10 times, rule registries, 10 bytes sent, 20 received
allowed once.test:443 once
2026-11-30T12:00:00Z 403 no_rule_matched a.test:443 (refused 95 more times, decision first). What to do: ask.
2026-11-30T12:00:00Z would_deny no_rule_matched b.test:443 (rule observed, 2 times, decision second). What to do: ask.
2026-11-30T12:00:00Z would_close hello_encrypted c.test:443: a?[2Jb?c? (decision third). What to do: disable.
`
	if got := string(stepText(step)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestEvaluation: a step reads decisions about targets without a connection; each is
// recorded before the response.
func TestEvaluation(t *testing.T) {
	s := start(t, withSteps)
	const query = "/step?to=up.test:443&to=denied.test:443&to=%20bad&format=json"
	resp, body := s.dial(t).send(get(query, good)).answer("GET")
	var got stepapi.Evaluations
	if err := json.Unmarshal([]byte(body), &got); err != nil || resp.StatusCode != 200 || len(got.Evaluations) != 3 {
		t.Fatalf("%s %v %s", resp.Status, err, body)
	}
	events := s.await(t, 3)
	for i, want := range []struct{ target, verdict, reason string }{
		{"up.test:443", "allow", "policy_allowed"}, {"denied.test:443", "deny", "policy_denied"}, {" bad", "deny", "target_invalid"},
	} {
		e, r := got.Evaluations[i], events[i]
		if e.Target != want.target || e.Verdict != want.verdict || e.Reason != want.reason || (e.Verdict == "deny") != (e.Next != "") {
			t.Errorf("got %+v", e)
		}
		if r.Kind != audit.KindTargetEvaluated || r.Verdict != want.verdict || r.Reason != want.reason || r.StepUUID != "step-good" || r.DecisionID != e.DecisionID || r.Status != 0 {
			t.Errorf("recorded %+v", r)
		}
	}
	if _, body := s.dial(t).send(get("/step?to=denied.test:443", good)).answer("GET"); strings.Count(body, "\n") != 1 || !strings.HasPrefix(body, "deny policy_denied denied.test:443: ") {
		t.Errorf("as text: %s", body)
	}
	for name, path := range map[string]string{
		"too many targets": "/step?" + strings.Repeat("to=a.test:443&", stepapi.MaxTargets) + "to=b.test:443",
		"a bad escape":     "/step?to=%zz",
	} {
		if resp, _ := s.dial(t).send(get(path, good)).answer("GET"); resp.StatusCode != 400 {
			t.Errorf("%s: %s", name, resp.Status)
		}
	}
	s.away.Store(true)
	if resp, body := s.dial(t).send(get("/step?to=up.test:443", good)).answer("GET"); resp.StatusCode != 503 || strings.Contains(body, "allow") {
		t.Errorf("without the log: %s %s", resp.Status, body)
	}
	if resp, _ := s.dial(t).send(get("/step?to=up.test:443", "")).answer("GET"); resp.StatusCode != 401 {
		t.Errorf("without a credential: %s", resp.Status)
	}
}

// TestNetworkCheck: a step's network check is recorded before the 204; what is not valid is
// refused, and recorded nowhere.
func TestNetworkCheck(t *testing.T) {
	s := start(t, withSteps)
	post := func(body string, fields ...string) string {
		return "POST /step/network-check HTTP/1.1\r\nHost: proxy.test:3128\r\n" + strings.Join(fields, "") + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
	}
	const valid = `{"results": [{"test": "direct_tcp", "address": "192.0.2.1:443", "network": "tcp4", "outcome": "blocked"},
		{"test": "dns", "address": "192.0.2.53:53", "network": "udp4", "outcome": "open", "detail": "answered"}]}`
	resp, body := s.dial(t).send(post(valid, good)).answer("POST")
	if resp.StatusCode != 204 || body != "" {
		t.Fatalf("%s %s", resp.Status, body)
	}
	e := s.await(t, 1)[0]
	want := []audit.Attribute{{Name: "outcome", Value: "open"}, {Name: "tests", Value: "direct_tcp, dns"}, {Name: "open_results", Value: "dns 192.0.2.53:53 udp4: answered"}}
	if e.Kind != audit.KindNetworkChecked || e.StepUUID != "step-good" || !slices.Equal(e.Attributes, want) {
		t.Errorf("recorded %+v", e)
	}
	chunked := "POST /step/network-check HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" + good + "\r\n"
	for name, c := range map[string]struct {
		raw    string
		status int
	}{
		"no credential":     {post(valid), 401},
		"another method":    {get("/step/network-check", good), 405},
		"a query":           {strings.Replace(post(valid, good), "network-check", "network-check?x=1", 1), 400},
		"no body":           {post("", good), 400},
		"an unknown key":    {post(`{"results": [], "x": 1}`, good), 400},
		"not JSON":          {post("x", good), 400},
		"too long":          {strings.Replace(post("x", good), "Content-Length: 1", "Content-Length: 40000", 1), 413},
		"too long, chunked": {chunked + "9000\r\n" + strings.Repeat(" ", 0x9000) + "\r\n0\r\n\r\n", 413},
		"cut":               {chunked + "zz\r\n", 400},
	} {
		resp, body := s.dial(t).send(c.raw).answer("GET")
		if resp.StatusCode != c.status || c.status == 405 && resp.Header.Get("Allow") != "POST" {
			t.Errorf("%s: %s %v %s", name, resp.Status, resp.Header, body)
		}
	}
	s.away.Store(true)
	if resp, _ := s.dial(t).send(post(valid, good)).answer("POST"); resp.StatusCode != 503 {
		t.Errorf("without the log: %s", resp.Status)
	}
	s.away.Store(false)
	if n := len(s.kinds()); n != 1 {
		t.Errorf("recorded: %v", s.kinds())
	}
}

// TestBinaries: a build and its digest are sent without a credential, and nothing else of
// the directory.
func TestBinaries(t *testing.T) {
	dir := t.TempDir()
	sum := sha256.Sum256([]byte("a build"))
	for name, content := range map[string]string{"linux-amd64": "a build", "linux-amd64.sha256": hex.EncodeToString(sum[:]) + "  linux-amd64\n", "secret": "secret"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := start(t, func(_ *env, c *Config, _ *ListenerConfig) { c.Binaries = stepbinaries.New(dir) })
	resp, body := s.dial(t).send(get("/sallyport-step/linux-amd64", "")).answer("GET")
	if resp.StatusCode != 200 || body != "a build" || resp.Header.Get("Repr-Digest") != "sha-256=:"+base64.StdEncoding.EncodeToString(sum[:])+":" {
		t.Errorf("%s %v %q", resp.Status, resp.Header, body)
	}
	if resp, body := s.dial(t).send(get("/sallyport-step/linux-amd64.sha256", "")).answer("GET"); resp.StatusCode != 200 || body != hex.EncodeToString(sum[:])+"  linux-amd64\n" {
		t.Errorf("%s %q", resp.Status, body)
	}
	if resp, body := s.dial(t).send(strings.Replace(get("/sallyport-step/linux-amd64", ""), "GET", "HEAD", 1)).answer("HEAD"); resp.StatusCode != 200 || body != "" || resp.ContentLength != 7 {
		t.Errorf("HEAD: %s %q", resp.Status, body)
	}
	for path, status := range map[string]int{
		"/sallyport-step/": 404, "/sallyport-step/secret": 404, "/sallyport-step/../secret": 404, "/sallyport-step/..%2fsecret": 404,
		"/sallyport-step/linux-arm64": 404, "/sallyport-step/linux-amd64?x": 400, "/sallyport-step/linux-amd64.sha256.sha256": 404, "/sallyport-step": 400,
	} {
		if resp, body := s.dial(t).send(get(path, "")).answer("GET"); resp.StatusCode != status || strings.Contains(body, "secret") && !strings.Contains(path, "secret") {
			t.Errorf("%s: %s %q", path, resp.Status, body)
		}
	}
	if resp, _ := s.dial(t).send(strings.Replace(get("/sallyport-step/linux-amd64", ""), "GET", "POST", 1)).answer("POST"); resp.StatusCode != 405 {
		t.Errorf("POST: %s", resp.Status)
	}
	without := start(t, nil)
	if resp, body := without.dial(t).send(get("/sallyport-step/linux-amd64", "")).answer("GET"); resp.StatusCode != 404 || !strings.Contains(body, "step_binaries") {
		t.Errorf("without builds: %s %q", resp.Status, body)
	}
}

// TestDownloadsAreShared: an address that reads slowly does not use the turns of another.
func TestDownloadsAreShared(t *testing.T) {
	s := start(t, nil)
	var slow []fair.Slot
	for range binaryDownloads.Repository.Slots {
		lease, err := s.server.downloads.TryAcquire(fair.Subject{Repository: "192.0.2.1"}, 0)
		if err != nil {
			t.Fatal(err)
		}
		slow = append(slow, lease)
	}
	if _, err := s.server.downloads.TryAcquire(fair.Subject{Repository: "192.0.2.1"}, 0); err == nil {
		t.Error("an address has more turns than its share")
	}
	lease, err := s.server.downloads.TryAcquire(fair.Subject{Repository: "192.0.2.2"}, 0)
	if err != nil {
		t.Errorf("another address: %v", err)
	}
	for _, l := range append(slow, lease) {
		l.Release()
	}
}
