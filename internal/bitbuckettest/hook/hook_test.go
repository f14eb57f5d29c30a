package hook

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// receiver answers with the given statuses in turn, the last one for all further requests.
type receiver struct {
	*httptest.Server
	mu       sync.Mutex
	statuses []int
	requests []*http.Request
	bodies   []string
}

func newReceiver(t *testing.T, statuses ...int) *receiver {
	t.Helper()
	r := &receiver{statuses: statuses}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.requests, r.bodies = append(r.requests, req), append(r.bodies, string(body))
		status := r.statuses[0]
		if len(r.statuses) > 1 {
			r.statuses = r.statuses[1:]
		}
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
	}))
	t.Cleanup(r.Close)
	return r
}

func newSender(t *testing.T, c Config) *Sender {
	t.Helper()
	s := New(c)
	t.Cleanup(s.Close)
	return s
}

func wait(t *testing.T, s *Sender, n int) []Delivery {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	all, err := s.Wait(ctx, n)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestSignature: the vector that Atlassian publishes.
func TestSignature(t *testing.T) {
	t.Parallel()
	if got := Signature("It's a Secret to Everybody", []byte("Hello World!")); got != "sha256=a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9" {
		t.Error(got)
	}
}

// TestCloudResends: a 5xx is sent again up to twice with the same UUID and body, and
// nothing else is.
func TestCloudResends(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		statuses []int
		attempts int
		accepted bool
	}{
		"accepted":             {[]int{200}, 1, true},
		"once unavailable":     {[]int{503, 200}, 2, true},
		"twice unavailable":    {[]int{503, 500, 204}, 3, true},
		"unavailable":          {[]int{503}, 3, false},
		"refused":              {[]int{401}, 1, false},
		"too many requests":    {[]int{429}, 1, false},
		"redirected elsewhere": {[]int{302}, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newReceiver(t, c.statuses...)
			s := newSender(t, Config{URL: r.URL + "/hook", Secret: "secret", Events: []string{"repo:push"}})
			s.Send("repo:fork", []byte(`{}`)) // not one of the hook's events
			s.Send("repo:push", []byte(`{"push": {}}`))
			d := wait(t, s, 1)
			if len(d) != 1 || len(d[0].Attempts) != c.attempts || d[0].Accepted() != c.accepted || len(r.requests) != c.attempts {
				t.Fatalf("%+v and %d requests", d, len(r.requests))
			}
			for i, req := range r.requests {
				h := req.Header
				if h.Get("X-Request-UUID") != d[0].RequestUUID || h.Get("X-Attempt-Number") != string(rune('1'+i)) || h.Get("X-Hook-UUID") != s.Config().UUID ||
					h.Get("X-Hub-Signature") != Signature("secret", []byte(r.bodies[i])) || r.bodies[i] != `{"push": {}}` || req.URL.Path != "/hook" || h.Get("X-Request-Id") != "" {
					t.Errorf("request %d: %v %s", i, h, r.bodies[i])
				}
			}
		})
	}
}

// TestCloudSendsNothingLarger: a body of more than 256 KB never arrives.
func TestCloudSendsNothingLarger(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, 200)
	s := newSender(t, Config{URL: r.URL})
	s.Send("repo:push", []byte(strings.Repeat(" ", MaxCloudBody+1)))
	s.Send("repo:push", []byte(strings.Repeat(" ", MaxCloudBody)))
	s.Lose(1)
	s.Send("repo:push", []byte("lost"))
	d := wait(t, s, 3)
	if d[0].Skipped == "" || d[1].Skipped != "" || d[2].Skipped == "" || len(r.requests) != 1 || r.requests[0].Header.Get("X-Hub-Signature") != "" {
		t.Errorf("%d requests", len(r.requests))
	}
}

// TestNoResponse: a receiver that does not answer in time ends an attempt. Whether it is
// sent again is a switch.
func TestNoResponse(t *testing.T) {
	t.Parallel()
	for again, attempts := range map[bool]int{false: 1, true: 3} {
		release := make(chan struct{})
		server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
		s := newSender(t, Config{URL: server.URL, Timeout: 20 * time.Millisecond, ResendTimeouts: again})
		s.Send("repo:push", []byte("{}"))
		d := wait(t, s, 1)
		if len(d[0].Attempts) != attempts || d[0].Accepted() || !errors.Is(d[0].Attempts[0].Err, context.DeadlineExceeded) {
			t.Errorf("%+v", d[0])
		}
		close(release)
		server.Close()
	}
}

// TestDataCenter: a ping is not signed, nothing is sent again, and after five failures in a
// row deliveries are skipped until a pause has passed.
func TestDataCenter(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, 200, 503, 503, 503, 503, 503, 503, 200, 200)
	var mu sync.Mutex
	now := time.Now()
	clock := func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}
	pass := func(d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(d)
	}
	s := newSender(t, Config{Product: DataCenter, URL: r.URL, Secret: "secret", Now: clock})
	s.SendPing()
	wait(t, s, 1)
	if h := r.requests[0].Header; h.Get("X-Hub-Signature") != "" || h.Get("X-Event-Key") != Ping || h.Get("X-Request-Id") == "" {
		t.Errorf("a ping with %v", h)
	}
	n := 1
	send := func(sent bool) {
		t.Helper()
		s.Send("repo:refs_changed", []byte("{}"))
		n++
		d := wait(t, s, n)[n-1]
		if (d.Skipped == "") != sent || len(d.Attempts) > 1 {
			t.Errorf("delivery %d: %+v", n, d)
		}
	}
	for range breakerFailures {
		send(true)
	}
	if h := r.requests[1].Header; h.Get("X-Hub-Signature") != Signature("secret", []byte("{}")) || h.Get("X-Attempt-Number") != "" || h.Get("X-Request-UUID") != "" {
		t.Errorf("a delivery with %v", h)
	}
	send(false)
	pass(breakerMin)
	send(true) // fails again: the pause doubles
	pass(breakerMin)
	send(false)
	pass(breakerMin)
	send(true)
	send(true)
}

// TestClose: a delivery under way ends, and nothing is sent afterwards.
func TestClose(t *testing.T) {
	t.Parallel()
	begun := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		_, _ = io.Copy(io.Discard, r.Body) // without this the end of the connection is not seen
		<-r.Context().Done()
	}))
	defer server.Close()
	s := New(Config{URL: server.URL})
	s.Send("repo:push", []byte("{}"))
	<-begun
	s.Close()
	s.Send("repo:push", []byte("{}"))
	s.Close()
	if d := s.Deliveries(); len(d) != 1 || d[0].Accepted() {
		t.Errorf("%+v", d)
	}
}
