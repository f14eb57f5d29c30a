package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/webhook"
)

// credentials is a store of credentials in memory.
type credentials struct {
	mu   sync.Mutex
	list map[string]Credential
	err  error
	read int
	used int
}

func (c *credentials) Find(_ context.Context, id string) (Credential, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read++
	if c.err != nil {
		return Credential{}, c.err
	}
	if found, ok := c.list[id]; ok {
		return found, nil
	}
	return Credential{}, fmt.Errorf("find: %w", ErrCredential)
}

func (c *credentials) Used(context.Context, string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.used++
}

// add makes a credential, and returns its text.
func (c *credentials) add(endpoint string) string {
	text, stored := NewCredential(endpoint)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list[stored.ID] = stored
	return text
}

func (c *credentials) revoke(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.list, text[len(credentialPrefix):len(credentialPrefix)+idDigits])
}

// store is a queue in memory that keeps the contract of [webhook.Store], in real time.
type store struct {
	mu     sync.Mutex
	rows   []*row
	wakes  map[chan string]bool
	causes map[string]string
	// withoutTimes takes away the time of the lease before.
	withoutTimes bool
}

type row struct {
	webhook.Task
	state             webhook.TaskState
	notBefore, expiry time.Time
}

func newStore() *store { return &store{wakes: map[chan string]bool{}, causes: map[string]string{}} }

func (s *store) add(endpoint, repository string, header http.Header, body string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := int64(len(s.rows) + 1)
	delivery := fmt.Sprintf("019b0000-0000-7000-8000-%012d", id)
	s.rows = append(s.rows, &row{state: webhook.TaskPending, Task: webhook.Task{
		ID: id, Delivery: delivery, Action: webhook.Forward, Endpoint: endpoint, Stream: endpoint + " " + repository, Repository: repository,
		Received: time.Now(), Event: "repo:push", Header: header, Body: []byte(body),
	}})
	for c := range s.wakes {
		select {
		case c <- endpoint:
		default:
		}
	}
	return delivery
}

func (s *store) Claim(ctx context.Context, endpoint string, n int, lease time.Duration) (claimed []webhook.Task, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, blocked := time.Now(), map[string]bool{}
	for _, r := range s.rows {
		if r.Endpoint != endpoint || r.state == webhook.TaskDone || r.state == webhook.TaskDead || blocked[r.Stream] || len(claimed) == n {
			continue
		}
		blocked[r.Stream] = true
		if r.state == webhook.TaskLeased && now.Before(r.expiry) || now.Before(r.notBefore) {
			continue
		}
		r.state, r.expiry = webhook.TaskLeased, now.Add(lease)
		r.LeasedBefore, r.Leased = r.Leased, now
		if s.withoutTimes {
			r.LeasedBefore = time.Time{}
		}
		r.Fence++
		r.Attempt++
		claimed = append(claimed, r.Task)
	}
	return claimed, ctx.Err()
}

func (s *store) end(t webhook.Task, change func(*row)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.rows[t.ID-1]
	if r.state != webhook.TaskLeased || r.Fence != t.Fence {
		return fmt.Errorf("task %d: %w", t.ID, webhook.ErrLeaseLost)
	}
	change(r)
	return nil
}

func (s *store) Extend(_ context.Context, t webhook.Task, lease time.Duration) error {
	return s.end(t, func(r *row) { r.expiry = time.Now().Add(lease) })
}

func (s *store) Done(_ context.Context, t webhook.Task, _ webhook.TaskResult) error {
	return s.end(t, func(r *row) { r.state = webhook.TaskDone })
}

func (s *store) Retry(_ context.Context, t webhook.Task, at time.Time, cause string) error {
	return s.end(t, func(r *row) { r.state, r.notBefore, s.causes[r.Delivery] = webhook.TaskPending, at, cause })
}

func (s *store) Release(_ context.Context, t webhook.Task) error {
	return s.end(t, func(r *row) { r.state = webhook.TaskPending })
}

func (s *store) Dead(_ context.Context, t webhook.Task, cause string) error {
	return s.end(t, func(r *row) { r.state, s.causes[r.Delivery] = webhook.TaskDead, cause })
}

func (s *store) Wake(ctx context.Context) <-chan string {
	c := make(chan string, 64)
	s.mu.Lock()
	s.wakes[c] = true
	s.mu.Unlock()
	context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.wakes, c)
		close(c)
	})
	return c
}

// age lets time pass for a delivery, since its receipt and since the lease before.
func (s *store) age(delivery string, received, leased time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.rows {
		if r.Delivery == delivery {
			r.Received, r.Leased = r.Received.Add(-received), r.Leased.Add(-leased)
		}
	}
}

// expire ends the leases of all tasks, as time would.
func (s *store) expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.rows {
		r.expiry, r.notBefore = time.Time{}, time.Time{}
	}
}

func (s *store) state(delivery string) (webhook.TaskState, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.rows {
		if r.Delivery == delivery {
			return r.state, s.causes[delivery]
		}
	}
	return "", ""
}

// gateway is a server of the protocol behind a real listener.
type gateway struct {
	store       *store
	credentials *credentials
	server      *Server
	http        *httptest.Server
}

func newGateway(t testing.TB, endpoints ...Endpoint) *gateway {
	t.Helper()
	return newGatewayWithLease(t, 0, endpoints...)
}

// newGatewayWithLease returns a gateway whose leases last that long; 0: the default.
func newGatewayWithLease(t testing.TB, lease time.Duration, endpoints ...Endpoint) *gateway {
	t.Helper()
	g := &gateway{store: newStore(), credentials: &credentials{list: map[string]Credential{}}}
	if endpoints == nil {
		endpoints = []Endpoint{{Name: "jenkins"}, {Name: "other"}}
	}
	var err error
	if g.server, err = NewServer(ServerConfig{Store: g.store, Credentials: g.credentials, Endpoints: endpoints, Lease: lease}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan struct{})
	go func() {
		defer close(ran)
		g.server.Run(ctx)
	}()
	g.http = httptest.NewServer(g.server)
	t.Cleanup(func() {
		cancel()
		<-ran
		g.http.CloseClientConnections()
		g.http.Close()
	})
	return g
}

// post makes a request, and returns its status and body.
func (g *gateway) post(t testing.TB, credential, operation, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.http.URL+Prefix+operation, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if credential != "" {
		req.Header.Set("Authorization", "Bearer "+credential)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// claim claims one task, and returns it.
func (g *gateway) claim(t testing.TB, credential string) task {
	t.Helper()
	status, text := g.post(t, credential, "claim", `{"max": 1, "wait_seconds": 0}`)
	var response claimResponse
	if err := json.Unmarshal([]byte(text), &response); status != http.StatusOK || err != nil || len(response.Tasks) != 1 {
		t.Fatalf("claim: %d %s: %v", status, text, err)
	}
	return response.Tasks[0]
}

// acknowledgement is the body of a request about a lease.
func acknowledgement(lease, more string) string { return fmt.Sprintf(`{"lease": %q%s}`, lease, more) }
