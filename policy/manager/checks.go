package manager

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sallyport/sallyport/policy/rego"
)

// CheckFunc checks the policy of a repository in a set: [rego.Engine.Check].
type CheckFunc func(ctx context.Context, set *rego.Set, repository string, limit time.Duration) (*rego.Checked, error)

// attempts are the limits of the attempts to check a repository's policy. The last
// attempt has all the time that a policy may take (0), and is executed apart from the
// others, one at a time: slow policies delay each other only.
var attempts = []time.Duration{250 * time.Millisecond, 2 * time.Second, 0}

// Times between repeated checks of what a loaded machine may have failed: the first,
// doubled each time up to the second.
const (
	retryFirst = time.Minute
	retryMax   = time.Hour
)

// retryError is the delay of a check that could not be executed.
const retryError = time.Second

// Checks checks changed policies of repositories beside the activation of revisions.
// Each repository has one check at a time. Attempts with the same limit are ordered by
// the time that the repository's checks have used so far, so that no repository delays
// others by many or slow changes. Its methods are safe for concurrent use.
type Checks struct {
	check    CheckFunc
	attempts []time.Duration // see attempts
	parallel int             // attempts with a limit at once
	log      *slog.Logger

	mu       sync.Mutex
	ctx      context.Context
	cancel   context.CancelFunc
	closed   bool
	jobs     map[string]*job // by repository
	waiting  [2]queue        // the jobs that may be executed, by class; those that were dropped included
	early    int             // urgent jobs that wait for or execute an attempt with a limit
	sequence int
	running  [2]int // attempts with a limit, and without
	outcomes []*rego.Checked
	used     map[string]*usage // by repository
	changed  chan struct{}     // closed at each change of the above
	ready    chan struct{}     // has a value while there are outcomes
	routines sync.WaitGroup
}

// job is a policy that is to be checked.
type job struct {
	repository string
	set        *rego.Set // the latest that has it
	attempt    int
	used       time.Duration // what the repository's checks had used when it was queued
	urgent     bool          // it is checked at once, and not only repeated
	timer      *time.Timer   // starts it later; nil: it waits or is executed
	cancel     context.CancelFunc
	dropped    bool // its outcome is of no use
	early      bool // it counts as [Checks.early]
	sequence   int
}

// usage is the time that the checks of a repository have used.
type usage struct {
	time    time.Duration
	at      time.Time // of the last check
	attempt int       // which attempt was the last one's
	retries int       // repeated checks in a row
}

// maxUsage bounds the repositories whose usage is remembered.
const maxUsage = 8192

// usageHalfLife is the time after which half of a usage counts.
const usageHalfLife = 10 * time.Minute

// NewChecks returns checks without any job. parallel is how many policies are checked
// at once in the first attempts. log may be nil.
func NewChecks(check CheckFunc, parallel int, log *slog.Logger) *Checks {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c := &Checks{
		check: check, attempts: attempts, parallel: max(1, parallel), log: log, jobs: map[string]*job{}, used: map[string]*usage{},
		changed: make(chan struct{}), ready: make(chan struct{}, 1),
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// Close ends all checks and waits for them.
func (c *Checks) Close() {
	c.mu.Lock()
	c.closed = true
	for _, j := range c.jobs {
		c.drop(j)
	}
	c.cancel()
	c.mu.Unlock()
	c.routines.Wait()
}

// Follow checks what a set needs: each repository that is pending, at once, and each that
// is rejected for a fault that a loaded machine may have caused, after a while that
// doubles each time. Checks of other repositories end. A check of the same files
// continues. now are rejected repositories that are checked at once, whatever the fault.
func (c *Checks) Follow(set *rego.Set, now ...string) {
	wanted := map[string]time.Duration{}
	for _, r := range set.Rejected() {
		if rego.Retryable(r.Failure) {
			wanted[r.Repository] = retryFirst
		}
	}
	for _, name := range now {
		wanted[name] = 0
	}
	for _, p := range set.Pending() {
		wanted[p.Repository] = 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	for name, j := range c.jobs {
		_, still := wanted[name]
		if still && set.SameFiles(j.set, name) && (j.timer == nil || wanted[name] > 0 || j.urgent) {
			j.set = set
			delete(wanted, name)
			continue
		}
		c.drop(j)
	}
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		c.add(name, set, wanted[name])
	}
	c.forget()
	c.dispatch()
}

// add adds a job. The lock is held.
func (c *Checks) add(repository string, set *rego.Set, delay time.Duration) {
	u := c.usage(repository)
	c.sequence++
	j := &job{repository: repository, set: set, attempt: u.attempt, urgent: delay == 0, sequence: c.sequence}
	if delay > 0 {
		delay = min(retryMax, delay<<min(u.retries, 16))
		u.retries++
	} else {
		u.retries = 0
	}
	c.jobs[repository] = j
	c.queue(j, delay)
}

// queue makes a job wait for its next attempt, from a later time on. The lock is held.
func (c *Checks) queue(j *job, delay time.Duration) {
	if delay > 0 {
		c.leave(j)
		j.timer = time.AfterFunc(delay, func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			if j.timer = nil; !j.dropped {
				c.queue(j, 0)
				c.dispatch()
			}
		})
		return
	}
	if early := j.urgent && c.classOf(j.attempt) == 0; early != j.early {
		c.leave(j)
		if j.early = early; early {
			c.early++
		}
	}
	j.used = c.usage(j.repository).time
	heap.Push(&c.waiting[c.classOf(j.attempt)], j)
}

// leave removes a job from those that count as early. The lock is held.
func (c *Checks) leave(j *job) {
	if j.early {
		j.early = false
		c.early--
	}
}

// drop ends a job. The lock is held.
func (c *Checks) drop(j *job) {
	delete(c.jobs, j.repository)
	j.dropped = true
	c.leave(j)
	if j.timer != nil {
		j.timer.Stop()
	}
	if j.cancel != nil {
		j.cancel()
	}
	c.notify()
}

// notify wakes the callers that wait for a change. The lock is held.
func (c *Checks) notify() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// dispatch starts the checks that may be executed. The lock is held.
func (c *Checks) dispatch() {
	for class, most := range [...]int{c.parallel, 1} {
		for c.running[class] < most && len(c.waiting[class]) > 0 && !c.closed {
			j := heap.Pop(&c.waiting[class]).(*job)
			if j.dropped {
				continue
			}
			ctx, cancel := context.WithCancel(c.ctx)
			j.cancel = cancel
			c.running[class]++
			c.routines.Go(func() {
				c.execute(ctx, j, j.set, class)
				cancel()
			})
		}
	}
}

// classOf is 0 for attempts with a limit and 1 for those without.
func (c *Checks) classOf(attempt int) int {
	if attempt == len(c.attempts)-1 {
		return 1
	}
	return 0
}

// queue is a heap of jobs: the earlier attempt first, then the repository whose checks
// have used less, then the job that is older. See [heap.Interface].
type queue []*job

func (q queue) Len() int      { return len(q) }
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(*job)) }

func (q queue) Less(i, j int) bool {
	a, b := q[i], q[j]
	return cmp.Or(cmp.Compare(a.attempt, b.attempt), cmp.Compare(a.used, b.used), cmp.Compare(a.sequence, b.sequence)) < 0
}

func (q *queue) Pop() any {
	n := len(*q) - 1
	j := (*q)[n]
	(*q)[n] = nil
	*q = (*q)[:n]
	return j
}

// execute makes one attempt.
func (c *Checks) execute(ctx context.Context, j *job, set *rego.Set, class int) {
	began := time.Now()
	outcome, err := c.check(ctx, set, j.repository, c.attempts[j.attempt])
	duration := time.Since(began)

	c.mu.Lock()
	defer c.mu.Unlock()
	c.running[class]--
	j.cancel = nil
	u := c.usage(j.repository)
	u.time += duration
	switch {
	case j.dropped || c.closed:
	case errors.Is(err, rego.ErrAttempt) && class == 0:
		j.attempt++
		u.attempt = j.attempt
		c.queue(j, 0)
	case err != nil:
		c.log.Error("policy of a repository not checked; the check is repeated", "repository", j.repository, "error", err)
		c.queue(j, retryError)
	default:
		delete(c.jobs, j.repository)
		c.leave(j)
		for u.attempt > 0 && c.attempts[u.attempt-1] > 2*duration {
			u.attempt--
		}
		if outcome.Failure == nil {
			u.retries = 0
		}
		c.outcomes = append(c.outcomes, outcome)
		select {
		case c.ready <- struct{}{}:
		default:
		}
	}
	c.dispatch()
	c.notify()
}

// usage returns what a repository has used. The lock is held.
func (c *Checks) usage(repository string) *usage {
	u := c.used[repository]
	if u == nil {
		u = &usage{at: time.Now()}
		c.used[repository] = u
	}
	for since := time.Since(u.at); since > usageHalfLife && u.time > 0; since -= usageHalfLife {
		u.time, u.at = u.time/2, u.at.Add(usageHalfLife)
	}
	return u
}

// forget bounds what is remembered of repositories without a job. The lock is held.
func (c *Checks) forget() {
	for name := range c.used {
		if len(c.used) <= maxUsage+len(c.jobs) {
			return
		}
		if c.jobs[name] == nil {
			delete(c.used, name)
		}
	}
}

// Ready has a value when [Checks.Outcomes] returns outcomes.
func (c *Checks) Ready() <-chan struct{} { return c.ready }

// Outcomes returns the outcomes since the previous call.
func (c *Checks) Outcomes() []*rego.Checked {
	c.mu.Lock()
	defer c.mu.Unlock()
	outcomes := c.outcomes
	c.outcomes = nil
	select {
	case <-c.ready:
	default:
	}
	return outcomes
}

// Wait returns when each policy that is to be checked at once has an outcome, needs an
// attempt without a limit or could not be checked, or at the end of ctx.
func (c *Checks) Wait(ctx context.Context) {
	for {
		c.mu.Lock()
		early, changed := c.early, c.changed
		c.mu.Unlock()
		if early == 0 {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}
