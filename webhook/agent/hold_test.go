package agent

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/webhook"
)

// watchedConn closes a channel with the connection.
type watchedConn struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

func (c *watchedConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

type watchedListener struct{ net.Listener }

func (l watchedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &watchedConn{Conn: c, closed: make(chan struct{})}, nil
}

type connectionKey struct{}

// holdServer is a server with a lease of a minute, which knows the connections of its requests
// unless they are not watched.
func holdServer(t *testing.T, watched bool) (s *Server, q *store, credential string, url string) {
	t.Helper()
	q = newStore()
	list := &credentials{list: map[string]Credential{}}
	config := ServerConfig{Store: q, Credentials: list, Endpoints: []Endpoint{{Name: "jenkins"}}}
	if watched {
		config.ConnectionClosed = func(ctx context.Context) <-chan struct{} { return ctx.Value(connectionKey{}).(*watchedConn).closed }
	}
	s, err := NewServer(config)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(s)
	server.Listener = watchedListener{server.Listener}
	server.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, connectionKey{}, c)
	}
	server.Start()
	t.Cleanup(func() { s.Stop(); server.Close() })
	return s, q, list.add("jenkins"), server.URL
}

// agentProcess is an agent with connections of its own.
type agentProcess struct {
	*http.Client
	t               *testing.T
	url, credential string
}

func newProcess(t *testing.T, url, credential string) agentProcess {
	return agentProcess{&http.Client{Transport: &http.Transport{}}, t, url, credential}
}

// post sends a request, and returns its status.
func (a agentProcess) post(operation, body string) int {
	a.t.Helper()
	req, err := http.NewRequestWithContext(context.WithoutCancel(a.t.Context()), http.MethodPost, a.url+Prefix+operation, strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+a.credential)
	req.Header.Set("Content-Type", "application/json")
	resp, err := a.Do(req)
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// id is that of the credential.
func (a agentProcess) id() string {
	return a.credential[len(credentialPrefix) : len(credentialPrefix)+idDigits]
}

// kill closes the connections, as the kernel does when the process ends.
func (a agentProcess) kill() { a.CloseIdleConnections() }

func (s *store) stateOf(id int64) webhook.TaskState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rows[id-1].state
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(50 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 50 s", what)
		}
	}
}

// watches returns how many claims are watched.
func (h *holds) watches() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.claims
}

// TestKilledInAClaim: the delivery of an agent that is killed after it claimed is free within
// moments, not when the lease expires, and a late acknowledgement is refused.
func TestKilledInAClaim(t *testing.T) {
	t.Parallel()
	s, q, credential, url := holdServer(t, true)
	q.add("jenkins", "acme/app", http.Header{}, "{}")
	killed := newProcess(t, url, credential)
	if status := killed.post("claim", `{"max": 1}`); status != http.StatusOK {
		t.Fatal(status)
	}
	killed.kill()
	eventually(t, "the stream is free", func() bool { return q.stateOf(1) == webhook.TaskPending }) // the lease lasts a minute
	eventually(t, "nothing is watched", func() bool { return s.holds.watches() == 0 })
	if _, err := q.Claim(t.Context(), "jenkins", 1, time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := q.Done(t.Context(), webhook.Task{ID: 1, Fence: 1}, webhook.TaskResult{}); err == nil {
		t.Error("a late acknowledgement of the killed agent is accepted")
	}
}

// TestLivingAgentKeepsItsLease: an agent that loses a connection and polls keeps its leases,
// nothing is released while the server stops, and none where connections are not known.
func TestLivingAgentKeepsItsLease(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		watched bool
		then    func(s *Server, a agentProcess)
		want    webhook.TaskState
	}{
		"polls meanwhile": {true, func(s *Server, a agentProcess) {
			var poll sync.WaitGroup
			poll.Go(func() { newProcess(a.t, a.url, a.credential).post("claim", `{"max": 1, "wait_seconds": 20}`) })
			a.t.Cleanup(poll.Wait)
			eventually(a.t, "the poll is in progress", func() bool { n, open := s.holds.seen(a.id()); return n == 2 && open })
			a.kill()
			eventually(a.t, "the watch ends", func() bool { return s.holds.watches() == 0 })
			s.Stop() // ends the poll
		}, webhook.TaskLeased},
		"the server stops": {true, func(s *Server, a agentProcess) { s.Stop(); a.kill() }, webhook.TaskLeased},
		"not watched":      {false, func(_ *Server, a agentProcess) { a.kill() }, webhook.TaskLeased},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, q, credential, url := holdServer(t, c.watched)
			q.add("jenkins", "acme/app", http.Header{}, "{}")
			a := newProcess(t, url, credential)
			if status := a.post("claim", `{"max": 1}`); status != http.StatusOK {
				t.Fatal(status)
			}
			if got := s.holds.watches(); (got == 1) != c.watched {
				t.Errorf("%d claims are watched", got)
			}
			c.then(s, a)
			// A release comes before the end of the watch.
			eventually(t, "the watch ends", func() bool { return s.holds.watches() == 0 })
			if got := q.stateOf(1); got != c.want {
				t.Errorf("the task is %s", got)
			}
		})
	}
}

// TestHoldsAreBounded: claims over the limit are not watched, and leases are forgotten when
// they end or expire.
func TestHoldsAreBounded(t *testing.T) {
	t.Parallel()
	h, now := newHolds(), time.Now()
	var claims []*heldClaim
	for i := range int64(maxHolds) {
		claims = append(claims, h.add([]webhook.Task{{ID: 2 * i, Fence: 1}, {ID: 2*i + 1, Fence: 1}}, now.Add(time.Minute)))
	}
	if c := h.add([]webhook.Task{{ID: -1}}, now); c != nil {
		t.Error("one claim more is watched")
	}
	h.end(webhook.Task{ID: 0, Fence: 2}) // another lease of the task
	h.end(webhook.Task{ID: 0, Fence: 1})
	h.end(webhook.Task{ID: 0, Fence: 1})
	if left := h.open(claims[0]); len(left) != 1 || left[0].ID != 1 {
		t.Errorf("left %v", left)
	}
	h.forget(claims[0])
	<-claims[0].ended
	h.extend(webhook.Task{ID: 2, Fence: 1}, now.Add(2*time.Minute))
	if next := h.expire(claims[1], now.Add(time.Minute)); !next.Equal(now.Add(2 * time.Minute)) {
		t.Errorf("the next lease ends at %s", next)
	}
	if next := h.expire(claims[1], now.Add(2*time.Minute)); !next.IsZero() {
		t.Errorf("a lease is left until %s", next)
	}
	for _, c := range claims[2:] {
		h.forget(c)
	}
	if len(h.leases) != 0 || h.claims != 0 {
		t.Errorf("%d leases of %d claims are left", len(h.leases), h.claims)
	}
}
