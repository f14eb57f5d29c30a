package agent

import (
	"errors"
	"sync"
	"time"

	"github.com/sallyport/sallyport/webhook"
)

// connectionGrace is the time in which an agent that lost its connection is expected to send
// another request. An agent that is alive polls, or acknowledges a delivery.
const connectionGrace = 2 * time.Second

// maxHolds bounds the claims whose connection is watched. The leases of further ones end by
// acknowledgement or expiry only.
const maxHolds = 4096

// holds has the leases that agents hold, by the claim that they came with, and the requests of
// each credential. It is safe for concurrent use.
type holds struct {
	mu     sync.Mutex
	claims int
	leases map[leaseID]*hold
	// requests has one entry for each credential that was ever valid here.
	requests map[string]*requests
}

// leaseID identifies one lease of a task.
type leaseID struct{ task, fence int64 }

// hold is one lease of a claim.
type hold struct {
	claim *heldClaim
	until time.Time
}

// heldClaim is a claim with leases. ended is closed when it has none any longer.
type heldClaim struct {
	tasks []webhook.Task
	open  int
	ended chan struct{}
}

// requests counts the requests of one credential.
type requests struct {
	open  int
	count uint64
}

func newHolds() *holds {
	return &holds{leases: map[leaseID]*hold{}, requests: map[string]*requests{}}
}

// begin counts a request of a credential; end ends it.
func (h *holds) begin(credential string) (end func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.requests[credential]
	if r == nil {
		r = new(requests)
		h.requests[credential] = r
	}
	r.open++
	r.count++
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		r.open--
	}
}

// seen returns how many requests a credential has sent, and whether one is in progress.
func (h *holds) seen(credential string) (count uint64, inProgress bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r := h.requests[credential]; r != nil {
		return r.count, r.open > 0
	}
	return 0, false
}

// add remembers the leases of a claim; nil: there are too many claims.
func (h *holds) add(tasks []webhook.Task, until time.Time) *heldClaim {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.claims >= maxHolds {
		return nil
	}
	h.claims++
	c := &heldClaim{tasks: tasks, open: len(tasks), ended: make(chan struct{})}
	for _, t := range tasks {
		h.leases[leaseID{t.ID, t.Fence}] = &hold{c, until}
	}
	return c
}

// extend lets a lease last until a time.
func (h *holds) extend(t webhook.Task, until time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if held := h.leases[leaseID{t.ID, t.Fence}]; held != nil {
		held.until = until
	}
}

// acknowledged forgets a lease whose acknowledgement succeeded, or came too late.
func (h *holds) acknowledged(t webhook.Task, err error) {
	if err == nil || errors.Is(err, errLost) {
		h.end(t)
	}
}

// end forgets a lease that was acknowledged, or lost.
func (h *holds) end(t webhook.Task) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.remove(t)
}

// remove forgets a lease. The caller holds the lock.
func (h *holds) remove(t webhook.Task) {
	id := leaseID{t.ID, t.Fence}
	held := h.leases[id]
	if held == nil {
		return
	}
	delete(h.leases, id)
	if held.claim.open--; held.claim.open == 0 {
		h.claims--
		close(held.claim.ended)
	}
}

// open returns the tasks of a claim that were neither acknowledged nor lost.
func (h *holds) open(c *heldClaim) (tasks []webhook.Task) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range c.tasks {
		if h.leases[leaseID{t.ID, t.Fence}] != nil {
			tasks = append(tasks, t)
		}
	}
	return tasks
}

// forget forgets the leases of a claim.
func (h *holds) forget(c *heldClaim) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range c.tasks {
		h.remove(t)
	}
}

// expire forgets the leases of a claim that have expired, and returns when the next one does.
func (h *holds) expire(c *heldClaim, now time.Time) (next time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range c.tasks {
		held := h.leases[leaseID{t.ID, t.Fence}]
		switch {
		case held == nil:
		case !now.Before(held.until):
			h.remove(t)
		case next.IsZero() || held.until.Before(next):
			next = held.until
		}
	}
	return next
}

// watch releases the leases of a claim if the connection that they were sent over is closed,
// and the agent sends no other request soon: its process was killed, or its network failed.
// The lease's fence makes a release that comes too late change nothing, and refuses a late
// acknowledgement of the agent.
func (s *Server) watch(closed <-chan struct{}, credential string, c *heldClaim) {
	timer := time.NewTimer(s.c.Lease)
	defer timer.Stop()
	defer s.holds.forget(c)
	for {
		select {
		case <-c.ended:
			return
		case <-s.stop: // the server closes connections itself now
			return
		case <-timer.C:
			next := s.holds.expire(c, time.Now())
			if next.IsZero() {
				return
			}
			timer.Reset(time.Until(next))
		case <-closed:
			if s.isGone(credential) {
				s.release(s.holds.open(c), "the agent's connection was closed")
			}
			return
		}
	}
}

// isGone reports whether a credential has no request in progress and sends none within the
// grace period. An agent that is alive and has room for a delivery always polls. Agents that
// share a credential hide each other, and then the lease has to expire.
func (s *Server) isGone(credential string) bool {
	before, _ := s.holds.seen(credential)
	timer := time.NewTimer(connectionGrace)
	defer timer.Stop()
	select {
	case <-s.stop:
		return false
	case <-timer.C:
	}
	after, inProgress := s.holds.seen(credential)
	return after == before && !inProgress
}
