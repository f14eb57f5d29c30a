package resource

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/webhook"
	"github.com/sallyport/sallyport/webhook/dispatch"
)

// counted is a resource that counts its refreshes.
type counted struct {
	mu       sync.Mutex
	began    []time.Time
	latest   int64
	takes    time.Duration
	response dispatch.Attempt
}

func (c *counted) refresh(ctx context.Context, _ webhook.Task) dispatch.Attempt {
	c.mu.Lock()
	c.began = append(c.began, time.Now())
	response := c.response
	c.mu.Unlock()
	select {
	case <-time.After(c.takes):
	case <-ctx.Done():
		return dispatch.Attempt{Err: ctx.Err()}
	}
	return response
}

func (c *counted) refreshes() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.began)
}

func (c *counted) refresher(t testing.TB) *Refresher {
	t.Helper()
	r, err := New(Config{
		Match: compile(t, "repository https://bitbucket.org/acme/app", "branch main"), Refresh: c.refresh,
		Latest: func(context.Context) (int64, error) {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.latest < 0 {
				return 0, errors.New("the database is unavailable")
			}
			return c.latest, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func task(id int64, body string) webhook.Task {
	return webhook.Task{ID: id, Action: webhook.RefreshResource, Event: "repo:push", Body: []byte(body)}
}

var ok = dispatch.Attempt{Status: http.StatusOK}

// TestNoMatchNoRefresh: deliveries that do not match are carried out, and refresh nothing.
func TestNoMatchNoRefresh(t *testing.T) {
	t.Parallel()
	c := &counted{response: ok}
	r := c.refresher(t)
	for i, body := range []string{
		cloudPush(cloudChange("branch:main", "")), // Kargo refreshes everything here
		cloudPush(cloudChange("branch:other", "branch:other")),
		cloudPush(cloudChange("", "tag:main")),
		cloudPush(),
	} {
		if a := r.Send(t.Context(), task(int64(i+1), body)); a.Outcome() != dispatch.Delivered || a.Status != 0 {
			t.Errorf("%s: %+v", body, a)
		}
	}
	if a := r.Send(t.Context(), task(9, "{")); a.Outcome() != dispatch.Gone {
		t.Errorf("a body that cannot be read: %+v", a)
	}
	if c.refreshes() != 0 {
		t.Errorf("%d refreshes", c.refreshes())
	}
	if a := r.Send(t.Context(), task(10, cloudPush(cloudChange("branch:main", "branch:main")))); a.Status != 200 || c.refreshes() != 1 {
		t.Errorf("a matching delivery: %+v, %d refreshes", a, c.refreshes())
	}
}

// TestCoalesced: deliveries at the same moment make one refresh; one that was accepted after
// a refresh began makes another; a replay refreshes again.
func TestCoalesced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &counted{response: ok, takes: 100 * time.Millisecond, latest: 20}
		r := c.refresher(t)
		push := cloudPush(cloudChange("branch:main", "branch:main"))
		var all sync.WaitGroup
		for id := int64(1); id <= 20; id++ {
			all.Go(func() {
				if a := r.Send(t.Context(), task(id, push)); a.Outcome() != dispatch.Delivered {
					t.Errorf("%d: %+v", id, a)
				}
			})
		}
		all.Wait()
		if c.refreshes() != 1 {
			t.Errorf("%d refreshes of 20 deliveries", c.refreshes())
		}
		// 21 is accepted while the refresh because of 20 is under way, or later.
		for id := int64(21); id <= 23; id++ {
			c.mu.Lock()
			c.latest = max(c.latest, min(id+1, 23))
			c.mu.Unlock()
			if a := r.Send(t.Context(), task(id, push)); a.Outcome() != dispatch.Delivered {
				t.Errorf("%d: %+v", id, a)
			}
		}
		if c.refreshes() != 3 { // of 1 to 20, of 21 and 22, of 23
			t.Errorf("%d refreshes", c.refreshes())
		}
		for i := range c.began[1:] {
			if pause := c.began[i+1].Sub(c.began[i]); pause < time.Second {
				t.Errorf("a refresh began %v after the one before", pause)
			}
		}
	})
}

// TestFailedRefreshCoversNothing: every delivery is attempted until a refresh succeeds, and
// without the store a refresh covers only its own task.
func TestFailedRefreshCoversNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &counted{response: dispatch.Attempt{Status: http.StatusForbidden}, latest: 5}
		r := c.refresher(t)
		push := cloudPush(cloudChange("branch:main", "branch:main"))
		for id := int64(1); id <= 3; id++ {
			if a := r.Send(t.Context(), task(id, push)); a.Outcome() != dispatch.Failed || a.Status != 403 {
				t.Errorf("%+v", a)
			}
		}
		c.response, c.latest = ok, -1
		for id := int64(1); id <= 3; id++ {
			if a := r.Send(t.Context(), task(id, push)); a.Status != 200 {
				t.Errorf("%d: %+v", id, a)
			}
		}
		if c.refreshes() != 6 {
			t.Errorf("%d refreshes", c.refreshes())
		}
	})
}

// TestWaitEndsWithItsContext: a task whose lease was lost does not wait for its turn.
func TestWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &counted{response: ok, takes: time.Hour}
		r := c.refresher(t)
		push := cloudPush(cloudChange("branch:main", "branch:main"))
		first, endFirst := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() { r.Send(first, task(1, push)) })
		synctest.Wait()
		second, endSecond := context.WithCancelCause(t.Context())
		endSecond(webhook.ErrLeaseLost)
		if a := r.Send(second, task(2, push)); !errors.Is(a.Err, webhook.ErrLeaseLost) {
			t.Errorf("%+v", a)
		}
		endFirst()
		all.Wait()
		if a := r.Send(second, task(3, push)); !errors.Is(a.Err, webhook.ErrLeaseLost) || c.refreshes() != 1 {
			t.Errorf("%+v, %d refreshes", a, c.refreshes())
		}
	})
}

func TestNewRejects(t *testing.T) {
	t.Parallel()
	c := &counted{}
	if _, err := New(Config{Refresh: c.refresh}); err == nil {
		t.Error("a condition that no delivery meets is accepted")
	}
	if _, err := New(Config{Match: Match{Repositories: []string{"x"}}}); err == nil {
		t.Error("a resource that cannot be refreshed is accepted")
	}
}

// TestMatchIsNeeded: without the condition, a push that only deletes refreshes.
func TestMatchIsNeeded(t *testing.T) {
	t.Parallel()
	c := &counted{response: ok}
	r := c.refresher(t)
	r.matches = func(*webhook.Event) bool { return true }
	if r.Send(t.Context(), task(1, cloudPush(cloudChange("branch:main", "")))); c.refreshes() != 1 {
		t.Errorf("%d refreshes", c.refreshes())
	}
}

// TestIdsBeforeTheRefreshAreNeeded: if the open tasks were read once a refresh has ended, a
// delivery that was accepted during the refresh would be lost.
func TestIdsBeforeTheRefreshAreNeeded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		push := cloudPush(cloudChange("branch:main", "branch:main"))
		for _, late := range []bool{false, true} {
			c := &counted{response: ok, takes: time.Second, latest: 1}
			r := c.refresher(t)
			var all sync.WaitGroup
			all.Go(func() { r.Send(t.Context(), task(1, push)) })
			synctest.Wait() // the refresh has begun
			c.mu.Lock()
			c.latest = 2
			c.mu.Unlock()
			all.Wait()
			if late {
				r.covered = r.through(t.Context(), 1)
			}
			r.Send(t.Context(), task(2, push))
			if want := map[bool]int{false: 2, true: 1}[late]; c.refreshes() != want {
				t.Errorf("ids read after the refresh: %t: %d refreshes", late, c.refreshes())
			}
		}
	})
}
