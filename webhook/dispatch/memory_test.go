package dispatch

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sallyport/sallyport/webhook"
)

// memory is a store that keeps the contract of [webhook.Store] in memory, with switches for
// faults of a database. Its clock is that of the bubble that a test runs in.
type memory struct {
	mu    sync.Mutex
	tasks []*row
	dead  map[int64]string
	wakes map[chan string]bool

	unavailable bool
	unknown     float64 // probability that the outcome of a call is unknown: applied or not, with an error
	// Each takes a control of the store away.
	withoutOrder bool
	early        bool // deliveries are acknowledged before they are committed
	withoutTimes bool // leases have no times
	// skew is how far the store's clock is ahead of the dispatcher's.
	skew time.Duration
}

type row struct {
	webhook.Task
	state      webhook.TaskState
	notBefore  time.Time
	leaseUntil time.Time
}

var errUnavailable = errors.New("the database is unavailable")

func newMemory() *memory {
	return &memory{dead: map[int64]string{}, wakes: map[chan string]bool{}}
}

// add accepts a delivery with one task, and returns once it is durable.
func (m *memory) add(endpoint, repository string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.unavailable && !m.early {
		return "", errUnavailable
	}
	id := int64(len(m.tasks) + 1)
	delivery := fmt.Sprintf("019b0000-0000-7000-8000-%012d", id)
	m.tasks = append(m.tasks, &row{state: webhook.TaskPending, Task: webhook.Task{
		ID: id, Delivery: delivery, Action: webhook.Forward, Endpoint: endpoint, Stream: endpoint + " " + repository, Repository: repository,
		Received: time.Now(), Body: []byte("{}"),
	}})
	if m.unavailable { // the commit fails after the acknowledgement
		m.tasks[id-1].state = webhook.TaskDone
	}
	for c := range m.wakes {
		select {
		case c <- endpoint:
		default:
		}
	}
	return delivery, nil
}

// call runs one call under the lock, with its faults.
func (m *memory) call(ctx context.Context, apply func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if m.unavailable {
		return errUnavailable
	}
	if rand.Float64() < m.unknown {
		if rand.IntN(2) == 0 {
			_ = apply()
		}
		return errUnavailable
	}
	return apply()
}

func (m *memory) Claim(ctx context.Context, endpoint string, n int, lease time.Duration) (claimed []webhook.Task, err error) {
	err = m.call(ctx, func() error {
		now := time.Now()
		blocked := map[string]bool{}
		for _, r := range m.tasks {
			if r.Endpoint != endpoint || r.state == webhook.TaskDone || r.state == webhook.TaskDead {
				continue
			}
			if blocked[r.Stream] && !m.withoutOrder || len(claimed) == n {
				continue
			}
			blocked[r.Stream] = true
			if r.state == webhook.TaskLeased && now.Before(r.leaseUntil) || now.Before(r.notBefore) {
				continue
			}
			r.state, r.leaseUntil = webhook.TaskLeased, now.Add(lease)
			if !m.withoutTimes {
				r.LeasedBefore, r.Leased = r.Leased, now.Add(m.skew)
			}
			r.Attempt++
			r.Fence++
			claimed = append(claimed, r.Task)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return claimed, nil
}

// end changes a task whose lease is the present one.
func (m *memory) end(ctx context.Context, operation string, t webhook.Task, change func(*row)) error {
	return m.call(ctx, func() error {
		r := m.tasks[t.ID-1]
		if r.state != webhook.TaskLeased || r.Fence != t.Fence {
			return fmt.Errorf("%s: %w", operation, webhook.ErrLeaseLost)
		}
		change(r)
		return nil
	})
}

func (m *memory) Extend(ctx context.Context, t webhook.Task, lease time.Duration) error {
	return m.end(ctx, "extend", t, func(r *row) { r.leaseUntil = time.Now().Add(lease) })
}

func (m *memory) Done(ctx context.Context, t webhook.Task, _ webhook.TaskResult) error {
	return m.end(ctx, "done", t, func(r *row) { r.state = webhook.TaskDone })
}

func (m *memory) Retry(ctx context.Context, t webhook.Task, at time.Time, _ string) error {
	return m.end(ctx, "retry", t, func(r *row) { r.state, r.notBefore = webhook.TaskPending, at })
}

func (m *memory) Release(ctx context.Context, t webhook.Task) error {
	return m.end(ctx, "release", t, func(r *row) { r.state = webhook.TaskPending })
}

func (m *memory) Dead(ctx context.Context, t webhook.Task, cause string) error {
	return m.end(ctx, "dead", t, func(r *row) { r.state, m.dead[r.ID] = webhook.TaskDead, cause })
}

func (m *memory) Wake(ctx context.Context) <-chan string {
	c := make(chan string, 16)
	m.mu.Lock()
	m.wakes[c] = true
	m.mu.Unlock()
	go func() {
		<-ctx.Done()
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.wakes, c)
		close(c)
	}()
	return c
}

func (m *memory) set(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
}

// states counts the tasks in each state.
func (m *memory) states() map[webhook.TaskState]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := map[webhook.TaskState]int{}
	for _, r := range m.tasks {
		n[r.state]++
	}
	return n
}

// causeOf returns why a task is a dead letter.
func (m *memory) causeOf(id int64) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dead[id]
}
