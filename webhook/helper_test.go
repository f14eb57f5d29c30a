package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/sallyport/sallyport/policy"
)

const (
	cloudPush = `{"actor":{"type":"user","uuid":"{11111111-0000-4000-8000-000000000001}"},` +
		`"repository":{"type":"repository","full_name":"acme/egress-policy","uuid":"{22222222-0000-4000-8000-000000000002}",` +
		`"project":{"key":"SEC"},"links":{"html":{"href":"https://bitbucket.org/acme/egress-policy"}}},` +
		`"push":{"changes":[{"new":{"type":"branch","name":"main","target":{"hash":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}},` +
		`"old":{"type":"branch","name":"main","target":{"hash":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"}}}]}}`
	cloudMerged = `{"actor":{},"repository":{"full_name":"acme/app","uuid":"{22222222-0000-4000-8000-000000000003}"},` +
		`"pullrequest":{"id":7,"state":"MERGED","source":{"branch":{"name":"fix"},"commit":{"hash":"abcdef012345"},"repository":null},` +
		`"destination":{"branch":{"name":"main"},"commit":{"hash":"0123456789ab"},"repository":{"full_name":"acme/app","uuid":"{22222222-0000-4000-8000-000000000003}"}},` +
		`"merge_commit":{"hash":"fedcba987654"},"links":{"html":{"href":"https://bitbucket.org/acme/app/pull-requests/7"}}}}`
	serverPush = `{"eventKey":"repo:refs_changed","date":"2025-01-01T10:00:00+0000","actor":{"id":4,"type":"NORMAL"},` +
		`"repository":{"slug":"app","id":12,"project":{"key":"PRJ"},"links":{"clone":[{"name":"http","href":"https://bb.example/scm/prj/app.git"},` +
		`{"name":"ssh","href":"ssh://git@bb.example:7999/prj/app.git"}]}},` +
		`"changes":[{"ref":{"id":"refs/heads/main","displayId":"main","type":"BRANCH"},"refId":"refs/heads/main",` +
		`"fromHash":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","toHash":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","type":"UPDATE"}]}`
	serverMerged = `{"eventKey":"pr:merged","actor":{"id":4,"type":"NORMAL"},"pullRequest":{"id":9,"state":"MERGED",` +
		`"fromRef":{"id":"refs/heads/fix","latestCommit":"cccccccccccccccccccccccccccccccccccccccc","repository":{"slug":"app","id":12,"project":{"key":"PRJ"}}},` +
		`"toRef":{"id":"refs/heads/main","latestCommit":"dddddddddddddddddddddddddddddddddddddddd","repository":{"slug":"app","id":12,"project":{"key":"PRJ"}}},` +
		`"properties":{"mergeCommit":{"id":"eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"}},"links":{"self":[{"href":"https://bb.example/projects/PRJ/repos/app/pull-requests/9"}]}}}`
)

// mergedInto is the destination's repository in cloudMerged, and mergedElsewhere another one.
const (
	mergedInto      = `"commit":{"hash":"0123456789ab"},"repository":{"full_name":"acme/app","uuid":"{22222222-0000-4000-8000-000000000003}"}`
	mergedElsewhere = `"commit":{"hash":"0123456789ab"},"repository":{"full_name":"acme/deploy","uuid":"{22222222-0000-4000-8000-000000000004}"}`
)

// unusedSecret is the content of a previous secret's file before the first rotation.
const unusedSecret = UnusedSecretPrefix + "before-the-first-rotation"

func secretOf(t testing.TB, key string) Secret {
	t.Helper()
	s, err := NewSecret(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// memoryQueue is a queue that keeps deliveries.
type memoryQueue struct {
	mu         sync.Mutex
	deliveries []*Delivery
	outcome    Outcome
	err        error
}

func (m *memoryQueue) Accept(_ context.Context, d *Delivery, _ Decision) (Outcome, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err == nil && m.outcome == Accepted {
		m.deliveries = append(m.deliveries, d)
	}
	return m.outcome, m.err
}

var errUnavailable = errors.New("the database is unavailable")

// allowAll allows every delivery, unless denied is set.
type allowAll struct{ denied bool }

func (a allowAll) DecideDelivery(context.Context, *Delivery) (Decision, error) {
	if a.denied {
		return Decision{}, nil
	}
	return Decision{Verdict: policy.Allow, Routes: []Route{{Action: RefreshPolicy}}}, nil
}

// failingDecider makes no decision, whatever the returned value states.
type failingDecider struct{}

func (failingDecider) DecideDelivery(context.Context, *Delivery) (Decision, error) {
	return Decision{Verdict: policy.Allow}, errUnavailable
}

// receiverEnv is a receiver behind a real listener.
type receiverEnv struct {
	queue   memoryQueue
	server  *httptest.Server
	mu      sync.Mutex
	refused map[Problem]int
}

func newReceiverEnv(t testing.TB, kind Kind, change func(*Config)) *receiverEnv {
	t.Helper()
	p := &receiverEnv{queue: memoryQueue{outcome: Accepted}, refused: map[Problem]int{}}
	secrets := []Secret{secretOf(t, "secret")}
	previous, err := NewPreviousSecret(unusedSecret)
	if err != nil {
		t.Fatal(err)
	}
	if previous != (Secret{}) {
		secrets = append(secrets, previous)
	}
	c := Config{
		Name: "policy", Kind: kind, Decider: allowAll{}, Queue: &p.queue,
		Secrets: func() []Secret { return secrets },
		Refused: func(_ netip.Addr, problem Problem) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.refused[problem]++
		},
	}
	if change != nil {
		change(&c)
	}
	r, err := NewReceiver(c)
	if err != nil {
		t.Fatal(err)
	}
	p.server = httptest.NewUnstartedServer(r)
	p.server.EnableHTTP2 = true
	p.server.StartTLS()
	t.Cleanup(p.server.Close)
	return p
}

// delivery is a request as Bitbucket sends it.
func delivery(kind Kind, key, body string) *http.Request {
	req := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	req.RequestURI = ""
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Event-Key", key)
	req.Header.Set("User-Agent", "Bitbucket-Webhooks/2.0")
	if kind == Cloud {
		req.Header.Set("X-Hook-UUID", "33333333-0000-4000-8000-000000000004")
		req.Header.Set("X-Request-UUID", "44444444-0000-4000-8000-000000000005")
		req.Header.Set("X-Attempt-Number", "1")
	} else {
		req.Header.Set("Content-Type", "application/json; charset=utf-8")
		req.Header.Set("X-Request-Id", "44444444-0000-4000-8000-000000000005")
	}
	return req
}

func sign(t testing.TB, req *http.Request, body, secret string) {
	t.Helper()
	req.Header.Set(SignatureHeader, secretOf(t, secret).Sign([]byte(body)).String())
}

// send sends a request and returns the status and the text of the answer.
func (p *receiverEnv) send(t testing.TB, req *http.Request) (int, string) {
	t.Helper()
	u := *req.URL
	u.Scheme, u.Host = "https", p.server.Listener.Addr().String()
	req.URL, req.Host = &u, u.Host
	response, err := p.server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	var text bytes.Buffer
	if _, err := text.ReadFrom(response.Body); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, text.String()
}

func asJSON(t testing.TB, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
