// Package worker executes untrusted code in worker processes with hard limits. Such
// code can exhaust a worker's memory, stack or time, and nothing else.
//
// A program is its own worker: [Main] serves calls if a pool started the process. A
// [Pool] starts such processes, sends them requests over pipes, and kills a process
// that exceeds its limits. A worker has no environment, no network and no
// descriptors but its pipes, and ends with the process that started it.
//
// Each death is attributed to one call. If several calls may have ended a process, each is
// executed again alone. Only a call that ends its worker alone is to blame. Calls of other
// shares never return a death.
package worker

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"time"
)

// Class is the scheduling class of a call.
type Class uint8

// The classes.
const (
	// Interactive calls have a client that waits.
	Interactive Class = iota
	// Urgent calls wait for a worker without a timeout. One at a time is executed, and a
	// worker is reserved for it.
	Urgent
	// Background calls wait for a worker without a timeout.
	Background
	// Long calls are Background calls that may take many seconds. One at a time is
	// executed, so that they do not delay the others.
	Long

	classes = iota // the number of classes
)

// Call is one request for a worker.
type Call struct {
	Share         string // the owner of the call; all shares get equal parts of the workers
	QuarantineKey string // the key that is quarantined if the call ends its worker; empty: none
	Class         Class
	Request       []byte
	// Limit is the time in which the worker is expected to reply. The pool kills the
	// worker [Config.Grace] later.
	Limit time.Duration
	// ProgressTimeout is the processor time that the worker may use without a [Tick]; 0: the
	// pool does not expect ticks.
	ProgressTimeout time.Duration
	// Uncounted marks a call whose death is neither counted nor reported to
	// [Config.OnDeath]. Such a call repeats another for diagnosis, or is a first attempt
	// within a short limit, so that another call's death is counted.
	Uncounted bool
	// MaxReply bounds the reply in bytes.
	MaxReply int
	// Follow returns what to send to the same worker after a reply, or nil if the
	// reply is final. It may be nil. It runs on a goroutine of the pool and must not
	// block.
	Follow func(reply []byte) (next []byte)
}

// Config configures a pool. A zero field means its default.
type Config struct {
	Workers int // processes; the default is two for each processor, and at least six
	Limits  Limits
	// Grace is how long after [Call.Limit] a worker is killed. Default: 250 ms.
	Grace time.Duration
	// Queue is how many calls of one share may wait. Default: 256.
	Queue int
	// QueueTimeout is how long an interactive call may wait. Default: 10 s.
	QueueTimeout time.Duration
	// Quarantine is how long a blame key is refused after its first death; each
	// further death doubles it, up to [maxQuarantine]. Default: 5 s.
	Quarantine time.Duration
	Log        *slog.Logger // nil: none
	// OnDeath is called for each attributed death, on a goroutine of the pool. It must
	// not block. It may be nil.
	OnDeath func(share string, death *Death)
}

// Heavy calls use more processor time than heavyAfter. For heavyFor afterwards,
// their share may use only some of the workers, so that light shares are not delayed.
const (
	heavyAfter = 10 * time.Millisecond
	heavyFor   = time.Minute
)

// Bounds of a batch. A batch fits into a pipe, so that pool and worker cannot
// deadlock.
const (
	batchCalls = 16
	batchBytes = 48 << 10
	batchLimit = 2 * time.Second // the largest Call.Limit in a batch
)

// maxWaiting bounds the waiting calls of all shares.
const maxWaiting = 16 << 10

// Pool is a set of worker processes. They start when they are first needed. Its
// methods are safe for concurrent use.
type Pool struct {
	config Config

	mu         sync.Mutex
	closed     bool
	started    bool
	slots      []*slot
	idle       []*slot // the most recently used last
	shares     map[string]*share
	ready      [kinds][]*share // by kind: shares with a waiting call and none executing, in round-robin order
	waiting    int
	running    [kinds]int // slots that execute calls of a kind
	quarantine map[string]*quarantined
	lastID     uint64
	status     Status
	routines   sync.WaitGroup
}

// New returns a pool. No process is started before the first call.
func New(c Config) *Pool {
	c.Workers = cmp.Or(c.Workers, max(6, 2*runtime.GOMAXPROCS(0)))
	c.Limits.Memory = cmp.Or(c.Limits.Memory, DefaultMemory)
	c.Limits.Stack = cmp.Or(c.Limits.Stack, DefaultStack)
	c.Grace = cmp.Or(c.Grace, 250*time.Millisecond)
	c.Queue = cmp.Or(c.Queue, 256)
	c.QueueTimeout = cmp.Or(c.QueueTimeout, 10*time.Second)
	c.Quarantine = cmp.Or(c.Quarantine, 5*time.Second)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	p := &Pool{config: c, shares: map[string]*share{}, quarantine: map[string]*quarantined{}}
	p.status.Deaths = map[Cause]int{}
	for range c.Workers {
		p.slots = append(p.slots, &slot{pool: p, wake: make(chan struct{}, 1)})
	}
	return p
}

// Config returns the configuration with its defaults.
func (p *Pool) Config() Config { return p.config }

// task is a queued or executing call.
type task struct {
	*Call
	id      uint64
	request []byte // the next bytes to send
	share   *share
	done    chan result // with a buffer of one

	// Under the pool's lock.
	queued   bool
	canceled bool
	process  *process // the process that executes the call

	alone    bool // must not be in a batch
	repeated bool // its worker had executed other calls and died; a new worker repeats it
	retired  int  // how often its worker ended in order before it replied
}

type result struct {
	reply []byte
	err   error
}

func (t *task) finish(reply []byte, err error) { t.done <- result{reply, err} }

// Do executes a call and returns the reply. The error is:
//
//   - a [*Death] if the call ended its worker;
//   - a [*Quarantined] if the call was not executed because of earlier deaths;
//   - [ErrQueueFull], [ErrQueueTimeout], [ErrClosed] or ctx.Err();
//   - otherwise the reason why no worker could be started.
//
// Do returns at once if ctx ends while the call is executed. The worker is then killed if
// the call's Limit is above two seconds.
func (p *Pool) Do(ctx context.Context, call *Call) (reply []byte, err error) {
	t := &task{Call: call, request: call.Request, done: make(chan result, 1)}
	if call.MaxReply <= 0 {
		return nil, errors.New("worker: MaxReply must be positive")
	}
	if err := p.enqueue(t); err != nil {
		return nil, err
	}
	var timeout <-chan time.Time
	if call.Class == Interactive {
		timer := time.NewTimer(p.config.QueueTimeout)
		defer timer.Stop()
		timeout = timer.C
	}
	for {
		select {
		case r := <-t.done:
			return r.reply, r.err
		case <-timeout:
			if p.withdraw(t, false) {
				p.mu.Lock()
				p.status.Refused++
				p.mu.Unlock()
				return nil, ErrQueueTimeout
			}
			timeout = nil // the call is executed, and bounded by its limit
		case <-ctx.Done():
			p.withdraw(t, true)
			return nil, ctx.Err()
		}
	}
}

// enqueue puts a task into its share's queue.
func (p *Pool) enqueue(t *task) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrClosed
	}
	if q := p.quarantined(t.QuarantineKey); q != nil {
		p.status.Quarantined++
		return q
	}
	s := p.shares[t.Share]
	if s == nil {
		s = &share{name: t.Share}
		p.shares[t.Share] = s
		p.forgetShares()
	}
	if t.Class == Interactive && (len(s.waiting[Interactive]) >= p.config.Queue || p.waiting >= maxWaiting) {
		p.status.Refused++
		return ErrQueueFull
	}
	p.start()
	p.lastID++
	t.id, t.share = p.lastID, s
	p.push(t, false)
	p.wakeOne()
	return nil
}

// start starts the goroutines of the slots. The lock is held.
func (p *Pool) start() {
	if p.started {
		return
	}
	p.started = true
	for _, s := range p.slots {
		p.idle = append(p.idle, s)
		p.routines.Go(s.loop)
	}
}

// withdraw removes a task from its queue, and reports whether it was queued. If the
// task is executed, cancel is set and its Limit is long, its worker is killed.
func (p *Pool) withdraw(t *task, cancel bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t.queued {
		p.remove(t)
		return true
	}
	if cancel {
		t.canceled = true
		if t.process != nil && t.Limit > 2*time.Second {
			t.process.kill()
		}
	}
	return false
}

// Close kills all workers, ends the waiting calls with [ErrClosed], and waits for the
// goroutines of the pool. Further calls return at once.
func (p *Pool) Close() {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.closed = true
	for _, s := range p.shares {
		for _, list := range s.waiting {
			for _, t := range slices.Clone(list) {
				p.remove(t)
				t.finish(nil, ErrClosed)
			}
		}
	}
	for _, s := range p.slots {
		if s.executing != nil {
			s.executing.kill()
		}
	}
	for len(p.idle) > 0 {
		p.wakeOne()
	}
	p.mu.Unlock()
	p.routines.Wait()
}

// Status describes a pool.
type Status struct {
	Workers     int           // processes that are alive
	Waiting     int           // calls that wait
	Deaths      map[Cause]int // total: attributed deaths
	Retired     int           // total: processes replaced because of their memory
	Refused     int           // total: calls refused with ErrQueueFull or ErrQueueTimeout
	Quarantined int           // total: calls refused because of earlier deaths
	Shares      []string      // shares in quarantine now, sorted
}

// Status returns the state and the counters of the pool.
func (p *Pool) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	st := p.status
	st.Waiting, st.Deaths = p.waiting, map[Cause]int{}
	for cause, n := range p.status.Deaths {
		st.Deaths[cause] = n
	}
	now := time.Now()
	for _, q := range p.quarantine {
		if now.Before(q.until) && !slices.Contains(st.Shares, q.share) {
			st.Shares = append(st.Shares, q.share)
		}
	}
	slices.Sort(st.Shares)
	return st
}

// Processes returns the process ids of the workers that are alive.
func (p *Pool) Processes() (ids []int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.slots {
		if s.alive != nil {
			ids = append(ids, s.alive.cmd.Process.Pid)
		}
	}
	return ids
}
