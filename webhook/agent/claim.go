package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/sallyport/sallyport/webhook"
	"github.com/sallyport/sallyport/webhook/dispatch"
)

// maxPolls is how many claims of one endpoint may wait at the same time.
const maxPolls = 16

// queue is one endpoint with the claims that wait for its tasks.
type queue struct {
	endpoint Endpoint
	polls    chan struct{} // slots

	mu    sync.Mutex
	woken chan struct{} // closed at the next change
}

func (q *queue) wake() {
	q.mu.Lock()
	defer q.mu.Unlock()
	close(q.woken)
	q.woken = make(chan struct{})
}

// change returns a channel that is closed at the next change.
func (q *queue) change() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.woken
}

// claim answers with tasks, as soon as there are any.
func (s *Server) claim(w http.ResponseWriter, r *http.Request, c Credential, q *queue, request claimRequest) error {
	wait := time.Duration(request.WaitSeconds) * time.Second
	if request.Max < 1 || request.Max > maxTasks || wait < 0 || wait > maxWait {
		return &refusal{http.StatusBadRequest, fmt.Sprintf("max is not from 1 to %d, or wait_seconds is not from 0 to %d", maxTasks, int(maxWait.Seconds()))}
	}
	select {
	case q.polls <- struct{}{}:
		defer func() { <-q.polls }()
	default:
		return &refusal{http.StatusTooManyRequests, "too many agents wait for this endpoint"}
	}
	began := time.Now()
	_ = http.NewResponseController(w).SetWriteDeadline(began.Add(wait + time.Minute)) // httptest.ResponseRecorder has none
	tasks, waited, err := s.await(r.Context(), q, request.Max, wait)
	if err != nil {
		return err
	}
	if len(tasks) > 0 && waited {
		// The credential may have been revoked while the claim waited.
		if _, err := s.authenticate(r); err != nil {
			s.release(tasks, "the agent's credential is not valid any longer")
			return err
		}
	}
	leased, sent, err := s.leasedTasks(c, q, tasks)
	switch {
	case err != nil:
		return err
	case len(leased) == 0:
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	w.Header().Set("Content-Type", "application/json")
	s.hold(r, c, sent)
	err = json.NewEncoder(w).Encode(claimResponse{int(s.c.Lease.Seconds()), leased})
	if err != nil || r.Context().Err() != nil { // the agent has probably not received them
		s.release(sent, "the agent disconnected before it received the delivery")
		for _, t := range sent {
			s.holds.end(t)
		}
	}
	return nil
}

// hold watches the connection of a claim while the agent holds its leases.
func (s *Server) hold(r *http.Request, c Credential, tasks []webhook.Task) {
	if s.c.ConnectionClosed == nil {
		return
	}
	if closed := s.c.ConnectionClosed(r.Context()); closed != nil {
		if claim := s.holds.add(tasks, time.Now().Add(s.c.Lease)); claim != nil {
			go s.watch(closed, c.ID, claim)
		}
	}
}

// await claims tasks, and waits for some if there are none.
func (s *Server) await(ctx context.Context, q *queue, n int, wait time.Duration) (tasks []webhook.Task, waited bool, err error) {
	end := time.NewTimer(wait)
	defer end.Stop()
	for ; ; waited = true {
		changed := q.change()
		// Without the agent's cancellation, so that no claim has an unknown outcome.
		claiming, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		tasks, err := s.c.Store.Claim(claiming, q.endpoint.Name, n, s.c.Lease)
		cancel()
		switch {
		case err != nil:
			return nil, waited, fmt.Errorf("claim: %w", err)
		case ctx.Err() != nil:
			s.release(tasks, "the agent disconnected")
			return nil, waited, ctx.Err()
		case len(tasks) > 0:
			return tasks, waited, nil
		}
		select {
		case <-ctx.Done():
			return nil, waited, ctx.Err()
		case <-s.stop:
			return nil, waited, nil
		case <-end.C:
			return nil, waited, nil
		case <-changed:
		case <-time.After(5 * time.Second): // in case a wake-up was dropped
		}
	}
}

// leasedTasks returns tasks in the form of the protocol, and which they are. It ends the leases
// of those that cannot be sent to the agent.
func (s *Server) leasedTasks(c Credential, q *queue, tasks []webhook.Task) (leased []task, sent []webhook.Task, err error) {
	size := 0
	for i, t := range tasks {
		if cause := cmp.Or(dispatch.Unsendable(t), dispatch.Overdue(t, q.endpoint.RetryFor, time.Now())); cause != "" {
			s.endUnsendable(t, cause)
			continue
		}
		if size += len(t.Body); size > maxBodies && len(leased) > 0 {
			s.release(tasks[i:], "the deliveries of one response are too large")
			break
		}
		header, err := dispatch.Header(&t, q.endpoint.Signer, time.Now())
		if err != nil {
			s.fail(tasks, "the delivery cannot be signed")
			return nil, nil, err
		}
		lease, err := seal(c.LeaseKey, t)
		if err != nil {
			s.fail(tasks, "the lease cannot be encoded")
			return nil, nil, err
		}
		leased = append(leased, task{lease, t.Delivery, t.Attempt, t.Received, t.Receiver, t.Event, t.Repository, header, t.Body})
		t.Header, t.Body = nil, nil // the memory of a held lease is small
		sent = append(sent, t)
	}
	return leased, sent, nil
}

// release lets tasks be claimed again at once: no attempt was made.
func (s *Server) release(tasks []webhook.Task, cause string) {
	for _, t := range tasks {
		s.c.Log.Debug("webhook task released", "endpoint", t.Endpoint, "delivery", t.Delivery, "reason", cause)
	}
	s.giveBack(tasks, s.c.Store.Release)
}

// fail records that tasks cannot be given out.
func (s *Server) fail(tasks []webhook.Task, cause string) {
	s.giveBack(tasks, func(ctx context.Context, t webhook.Task) error { return s.c.Store.Retry(ctx, t, time.Now(), cause) })
}

// giveBack ends the leases of tasks. If that fails, they expire.
func (s *Server) giveBack(tasks []webhook.Task, end func(context.Context, webhook.Task) error) {
	for _, t := range tasks {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		if err := end(ctx, t); err != nil {
			s.c.Log.Warn("webhook task not released: its lease has to expire", "endpoint", t.Endpoint, "delivery", t.Delivery, "error", err)
		}
		cancel()
	}
}

// endUnsendable ends a task that can never be sent as a dead letter.
func (s *Server) endUnsendable(t webhook.Task, cause string) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := s.c.Store.Dead(ctx, t, cause); err != nil {
		s.c.Log.Warn("webhook task not ended", "endpoint", t.Endpoint, "delivery", t.Delivery, "error", err)
		return
	}
	s.observe(func(o dispatch.Observer) { o.DeadLetter(t.Endpoint) })
	s.c.Log.Error("webhook delivery is a dead letter", "endpoint", t.Endpoint, "delivery", t.Delivery, "attempt", t.Attempt, "reason", cause)
}

func (s *Server) observe(notify func(dispatch.Observer)) {
	if s.c.Observer != nil {
		notify(s.c.Observer)
	}
}
