package agent

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/proxytest"
	"github.com/sallyport/sallyport/webhook"
)

const claimNow = `{"max": 8, "wait_seconds": 0}`

func TestAuthentication(t *testing.T) {
	valid := func(g *gateway) string { return g.credentials.add("jenkins") }
	for _, c := range []struct {
		name       string
		credential func(*gateway) string
		status     int
	}{
		{"valid", valid, http.StatusNoContent},
		{"none", func(*gateway) string { return "" }, http.StatusUnauthorized},
		{"another secret", func(g *gateway) string { text := valid(g); return text[:len(text)-4] + "0000" }, http.StatusUnauthorized},
		{"an unknown id", func(g *gateway) string { valid(g); text, _ := NewCredential("jenkins"); return text }, http.StatusUnauthorized},
		{"upper case", func(g *gateway) string { return strings.ToUpper(valid(g)) }, http.StatusUnauthorized},
		{"a byte more", func(g *gateway) string { return valid(g) + "0" }, http.StatusUnauthorized},
		{"revoked", func(g *gateway) string { text := valid(g); g.credentials.revoke(text); return text }, http.StatusUnauthorized},
		{"of an endpoint that is not for agents", func(g *gateway) string { return g.credentials.add("public") }, http.StatusForbidden},
		{"the database is unavailable", func(g *gateway) string {
			text := valid(g)
			g.credentials.err = errors.New("unavailable")
			return text
		}, http.StatusServiceUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGateway(t)
			if status, text := g.post(t, c.credential(g), "claim", claimNow); status != c.status {
				t.Errorf("%d %s, want %d", status, text, c.status)
			}
		})
	}
}

// TestZeroCredential has a store that returns nothing without an error: it authenticates
// no client.
func TestZeroCredential(t *testing.T) {
	text, _ := NewCredential("jenkins")
	zero := &credentials{list: map[string]Credential{text[len(credentialPrefix) : len(credentialPrefix)+idDigits]: {}}}
	if _, err := find(t.Context(), zero, text); !errors.Is(err, ErrCredential) {
		t.Errorf("the zero credential: %v", err)
	}
	if _, err := open([32]byte{}, "", "x.y"); err == nil {
		t.Error("the zero key opens a lease")
	}
}

func TestDigestCheckIsNeeded(t *testing.T) {
	g := newGateway(t)
	text := g.credentials.add("jenkins")
	forged := text[:len(text)-secretDigits] + strings.Repeat("0", secretDigits)
	id, err := credentialID(forged)
	if err != nil {
		t.Fatal(err)
	}
	// Without the digest, the id alone finds the credential.
	if c, err := g.credentials.Find(t.Context(), id); err != nil || c.Endpoint != "jenkins" {
		t.Errorf("the attack fails without the control: %v", err)
	}
	if _, err := find(t.Context(), g.credentials, forged); !errors.Is(err, ErrCredential) {
		t.Errorf("a forged secret: %v", err)
	}
}

// TestBadCredentialsAreLimited counts by address, and lets a valid agent behind the same
// address continue.
func TestBadCredentialsAreLimited(t *testing.T) {
	g := newGateway(t)
	known, fresh := g.credentials.add("jenkins"), g.credentials.add("jenkins")
	if status, _ := g.post(t, known, "claim", claimNow); status != http.StatusNoContent {
		t.Fatal(status)
	}
	before := g.credentials.read
	statuses := map[int]int{}
	for range 40 {
		forged, _ := NewCredential("jenkins")
		status, _ := g.post(t, forged, "claim", claimNow)
		statuses[status]++
	}
	if statuses[http.StatusUnauthorized] != maxFailures || statuses[http.StatusTooManyRequests] != 40-maxFailures {
		t.Errorf("statuses %v", statuses)
	}
	if n := g.credentials.read - before; n != maxFailures {
		t.Errorf("%d reads of the database", n)
	}
	if status, _ := g.post(t, known, "claim", claimNow); status != http.StatusNoContent {
		t.Errorf("the agent is locked out: %d", status)
	}
	if status, _ := g.post(t, fresh, "claim", claimNow); status != http.StatusTooManyRequests {
		t.Errorf("a credential that was not seen before: %d", status)
	}
}

// TestRejectedCredentialIsNotLookedUp: a credential that was not valid costs one query a
// minute, and the id in it is not used by that.
func TestRejectedCredentialIsNotLookedUp(t *testing.T) {
	g := newGateway(t)
	known := g.credentials.add("jenkins")
	wrong := known[:len(known)-1] + map[bool]string{true: "1", false: "0"}[known[len(known)-1] == '0']
	for range maxFailures {
		if status, _ := g.post(t, wrong, "claim", claimNow); status != http.StatusUnauthorized {
			t.Errorf("%d", status)
		}
	}
	if g.credentials.read != 1 || g.credentials.used != 0 {
		t.Errorf("%d reads, %d uses", g.credentials.read, g.credentials.used)
	}
	if f := &g.server.failures; f.isRejected(sha256.Sum256([]byte(wrong)), time.Now().Add(time.Minute)) {
		t.Error("it is remembered after a minute")
	}
}

// TestCredentialIsCreatedLater: a credential that was used before it was created is valid at
// once when it is.
func TestCredentialIsCreatedLater(t *testing.T) {
	g := newGateway(t)
	text := g.credentials.add("jenkins")
	id, err := credentialID(text)
	if err != nil {
		t.Fatal(err)
	}
	g.credentials.mu.Lock()
	created := g.credentials.list[id]
	delete(g.credentials.list, id)
	g.credentials.mu.Unlock()
	if status, _ := g.post(t, text, "claim", claimNow); status != http.StatusUnauthorized {
		t.Errorf("before it is created: %d", status)
	}
	g.credentials.mu.Lock()
	g.credentials.list[id] = created
	g.credentials.mu.Unlock()
	if status, _ := g.post(t, text, "claim", claimNow); status == http.StatusUnauthorized {
		t.Errorf("after it is created: %d", status)
	}
}

func TestFailuresAreBounded(t *testing.T) {
	var f failures
	now := time.Now()
	at := func(i int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32)
	}
	for i := range 3 * maxAddresses {
		f.failed(at(i), [32]byte{}, now, true)
		f.succeeded([32]byte{byte(i), byte(i >> 8), 1}, now)
	}
	for i := range 3 * maxRejected {
		f.failed(at(0), sha256.Sum256([]byte{byte(i), byte(i >> 8)}), now, true)
	}
	if len(f.counts) > maxAddresses+1 || len(f.recent) > maxRecent || len(f.rejected) > maxRejected {
		t.Errorf("%d addresses, %d credentials", len(f.counts), len(f.recent))
	}
	if f.allows(at(3*maxAddresses), [32]byte{}, now) {
		t.Error("an address beyond the bound is not limited")
	}
	if !f.allows(at(3*maxAddresses), [32]byte{}, now.Add(time.Minute)) || len(f.counts) > 1 {
		t.Errorf("after a minute, %d addresses", len(f.counts))
	}
}

// TestRequests has requests with a valid credential.
func TestRequests(t *testing.T) {
	g := newGateway(t)
	credential := g.credentials.add("jenkins")
	g.store.add("jenkins", "r", nil, "{}")
	lease := g.claim(t, credential).Lease
	for _, c := range []struct {
		operation, body string
		status          int
	}{
		{"claim", `{"max": 0, "wait_seconds": 0}`, 400},
		{"claim", `{"max": 9, "wait_seconds": 0}`, 400},
		{"claim", `{"max": 1, "wait_seconds": 56}`, 400},
		{"claim", `{"max": 1, "wait_seconds": -1}`, 400},
		{"claim", `{"max": 1, "endpoint": "other"}`, 400},
		{"claim", `{"max": 1} {}`, 400},
		{"claim", `[1]`, 400},
		{"claim", ``, 400},
		{"claim", `{"max": 1, "wait_seconds": ` + strings.Repeat(" ", maxRequest) + `0}`, 400},
		{"steal", `{}`, 404},
		{"", `{}`, 404},
		{"done", acknowledgement("", `, "status": 200`), 400},
		{"done", acknowledgement(lease+"A", `, "status": 200`), 400},
		{"done", acknowledgement("A"+lease, `, "status": 200`), 400},
		{"done", acknowledgement(strings.Repeat("A", maxLease+1), `, "status": 200`), 400},
		{"done", acknowledgement(lease, `, "status": 500`), 400},
		{"done", acknowledgement(lease, ``), 400},
		{"done", acknowledgement(lease, `, "status": 200, "duration_ms": -1`), 400},
		{"retry", acknowledgement(lease, `, "after_ms": -1`), 400},
		{"retry", acknowledgement(lease, `, "after_ms": 3600001`), 400},
		{"extend", acknowledgement(lease, ``), 204},
		{"done", acknowledgement(lease, `, "status": 204, "duration_ms": 3`), 204},
		{"done", acknowledgement(lease, `, "status": 204`), 409},
		{"extend", acknowledgement(lease, ``), 409},
		{"retry", acknowledgement(lease, ``), 409},
		{"dead", acknowledgement(lease, ``), 409},
	} {
		if status, text := g.post(t, credential, c.operation, c.body); status != c.status {
			t.Errorf("%s %.80s: %d %s, want %d", c.operation, c.body, status, text, c.status)
		}
	}
	get, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.http.URL+Prefix+"claim", nil)
	if err != nil {
		t.Fatal(err)
	}
	get.Header.Set("Authorization", "Bearer "+credential)
	resp, err := http.DefaultClient.Do(get)
	if err != nil || resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET: %v, %v", resp, err)
	}
	_ = resp.Body.Close()
}

// TestEndpointsAreSeparate has an agent of another endpoint: it is given nothing of the
// first, and cannot use its leases.
func TestEndpointsAreSeparate(t *testing.T) {
	g := newGateway(t)
	own, stranger, colleague := g.credentials.add("jenkins"), g.credentials.add("other"), g.credentials.add("jenkins")
	delivery := g.store.add("jenkins", "r", nil, "{}")
	if status, _ := g.post(t, stranger, "claim", claimNow); status != http.StatusNoContent {
		t.Fatalf("the other endpoint's agent claims: %d", status)
	}
	lease := g.claim(t, own).Lease
	for _, credential := range []string{stranger, colleague} {
		for _, operation := range []string{"done", "dead", "retry", "extend"} {
			if status, _ := g.post(t, credential, operation, acknowledgement(lease, `, "status": 200`)); status != http.StatusBadRequest {
				t.Errorf("%s with the lease of another: %d", operation, status)
			}
		}
	}
	if state, _ := g.store.state(delivery); state != webhook.TaskLeased {
		t.Errorf("state %s", state)
	}
}

// TestLeaseKeyIsNeeded forges a lease as an agent could that knows its credential and the
// format: only the key, which it does not know, prevents that.
func TestLeaseKeyIsNeeded(t *testing.T) {
	g := newGateway(t)
	stranger := g.credentials.add("other")
	g.store.add("jenkins", "r", nil, "{}")
	g.claim(t, g.credentials.add("jenkins"))
	victim := webhook.Task{ID: 1, Fence: 1, Endpoint: "other"}
	guessed, err := seal([32]byte{1}, victim)
	if err != nil {
		t.Fatal(err)
	}
	if status, _ := g.post(t, stranger, "done", acknowledgement(guessed, `, "status": 200`)); status != http.StatusBadRequest {
		t.Errorf("a forged lease: %d", status)
	}
	id, _ := credentialID(stranger)
	known, err := seal(g.credentials.list[id].LeaseKey, victim)
	if err != nil {
		t.Fatal(err)
	}
	if status, _ := g.post(t, stranger, "done", acknowledgement(known, `, "status": 200`)); status != http.StatusNoContent {
		t.Errorf("the attack fails without the control: %d", status)
	}
}

// TestLateAcknowledgement has a lease that expired, and a task that another agent holds.
func TestLateAcknowledgement(t *testing.T) {
	g := newGateway(t)
	first, second := g.credentials.add("jenkins"), g.credentials.add("jenkins")
	delivery := g.store.add("jenkins", "r", nil, "{}")
	late := g.claim(t, first)
	g.store.expire()
	present := g.claim(t, second)
	if late.Delivery != present.Delivery || present.Attempt != 2 {
		t.Errorf("the repeat is %s, attempt %d", present.Delivery, present.Attempt)
	}
	for _, operation := range []string{"done", "dead", "retry", "extend"} {
		if status, _ := g.post(t, first, operation, acknowledgement(late.Lease, `, "status": 200`)); status != http.StatusConflict {
			t.Errorf("a late %s: %d", operation, status)
		}
	}
	if state, _ := g.store.state(delivery); state != webhook.TaskLeased {
		t.Errorf("a late acknowledgement changed the state: %s", state)
	}
	if status, _ := g.post(t, second, "done", acknowledgement(present.Lease, `, "status": 200`)); status != http.StatusNoContent {
		t.Errorf("the present lease: %d", status)
	}
}

// TestTimeBudget has an agent that retries after the end of the gateway's budget.
func TestTimeBudget(t *testing.T) {
	g := newGateway(t, Endpoint{Name: "jenkins", RetryFor: time.Nanosecond})
	credential := g.credentials.add("jenkins")
	delivery := g.store.add("jenkins", "r", nil, "{}")
	lease := g.claim(t, credential).Lease
	if status, _ := g.post(t, credential, "retry", acknowledgement(lease, `, "cause": "status 500\u001b[31m"`)); status != http.StatusNoContent {
		t.Fatal(status)
	}
	if state, cause := g.store.state(delivery); state != webhook.TaskDead || strings.ContainsRune(cause, '\x1b') || !strings.Contains(cause, "status 500") {
		t.Errorf("%s %q", state, cause)
	}
}

// TestLongPoll waits for a delivery, and for the next of a stream.
func TestLongPoll(t *testing.T) {
	g := newGateway(t)
	credential := g.credentials.add("jenkins")
	var wg sync.WaitGroup
	wg.Go(func() {
		status, text := g.post(t, credential, "claim", `{"max": 1, "wait_seconds": 55}`)
		if status != http.StatusOK || !strings.Contains(text, "repo:push") {
			t.Errorf("%d %s", status, text)
		}
	})
	proxytest.Eventually(t, "the claim waits", func() bool { return len(g.server.endpoints["jenkins"].polls) == 1 })
	g.store.add("jenkins", "r", nil, "{}")
	wg.Wait()
	wg.Go(func() {
		if status, _ := g.post(t, credential, "claim", `{"max": 1, "wait_seconds": 55}`); status != http.StatusNoContent {
			t.Errorf("at the end of the server: %d", status)
		}
	})
	proxytest.Eventually(t, "the claim waits", func() bool { return len(g.server.endpoints["jenkins"].polls) == 1 })
	g.server.Stop()
	wg.Wait()
}

// TestRevokedWhileWaiting revokes a credential whose claim waits: it is given nothing.
func TestRevokedWhileWaiting(t *testing.T) {
	g := newGateway(t)
	credential := g.credentials.add("jenkins")
	var wg sync.WaitGroup
	wg.Go(func() {
		if status, text := g.post(t, credential, "claim", `{"max": 1, "wait_seconds": 55}`); status != http.StatusUnauthorized {
			t.Errorf("%d %s", status, text)
		}
	})
	proxytest.Eventually(t, "the claim waits", func() bool { return len(g.server.endpoints["jenkins"].polls) == 1 })
	g.credentials.revoke(credential)
	delivery := g.store.add("jenkins", "r", nil, "{}")
	wg.Wait()
	if state, cause := g.store.state(delivery); state != webhook.TaskPending || cause != "" {
		t.Errorf("another agent has to wait for the lease, or a failure is recorded: %s, %q", state, cause)
	}
}

func TestPollsAreBounded(t *testing.T) {
	g := newGateway(t)
	credential := g.credentials.add("jenkins")
	q := g.server.endpoints["jenkins"]
	for range maxPolls {
		q.polls <- struct{}{}
	}
	if status, _ := g.post(t, credential, "claim", claimNow); status != http.StatusTooManyRequests {
		t.Errorf("%d", status)
	}
}

func TestNewServerRefuses(t *testing.T) {
	all := &credentials{}
	for name, c := range map[string]ServerConfig{
		"no store":       {Credentials: all},
		"no credentials": {Store: newStore()},
		"a name twice":   {Store: newStore(), Credentials: all, Endpoints: []Endpoint{{Name: "a"}, {Name: "a"}}},
		"no name":        {Store: newStore(), Credentials: all, Endpoints: []Endpoint{{}}},
	} {
		if _, err := NewServer(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzCredential(f *testing.F) {
	text, stored := NewCredential("jenkins")
	f.Add(text)
	f.Add(strings.Replace(text, "_", "-", 1))
	f.Add("spagent_")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := credentialID(s)
		if err == nil && s != fmt.Sprintf("spagent_%s_%s", id, s[len(s)-secretDigits:]) {
			t.Errorf("%q has the id %q", s, id)
		}
		if stored.matches(s) && s != text {
			t.Errorf("%q matches", s)
		}
	})
}

func FuzzLease(f *testing.F) {
	key := [32]byte{7}
	lease, err := seal(key, webhook.Task{ID: 5, Fence: 3, Endpoint: "jenkins", Delivery: "d", Received: time.Unix(1, 0).UTC()})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(lease)
	f.Add(strings.ToLower(lease))
	f.Add(".")
	f.Fuzz(func(t *testing.T, s string) {
		// Nothing but the lease itself opens.
		if _, err := open(key, "jenkins", s); err == nil && s != lease {
			t.Errorf("%q is a lease", s)
		}
		if _, err := open(key, "other", s); err == nil {
			t.Errorf("%q is a lease of another endpoint", s)
		}
	})
}

func FuzzRequest(f *testing.F) {
	f.Add(`{"lease": "x", "status": 200, "cause": "c"}`)
	f.Add(`{"max": 1, "wait_seconds": 25}`)
	f.Add(`{} {}`)
	f.Fuzz(func(_ *testing.T, s string) {
		var l leaseRequest
		_ = decode(strings.NewReader(s), &l)
		var c claimRequest
		_ = decode(strings.NewReader(s), &c)
	})
}
