package proxy

import (
	"container/heap"
	"net/netip"
	"sync"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/destination"
	"github.com/sallyport/sallyport/policy"
)

// fairQueue holds the evaluations that need a repository's rules. Each repository has
// one evaluation at a time. The repository with the least evaluation time so far is
// next, including the expected time of its next evaluation, so that a slow repository
// does not delay fast ones. Safe for concurrent use.
type fairQueue struct {
	mu      sync.Mutex
	changed *sync.Cond
	closed  bool
	shares  map[string]*share // those with waiting items or a running evaluation
	ready   shareHeap         // those with waiting items and no running evaluation
	pass    *pass             // the pass of the items; nil: none
	round   int               // counts the calls of replace
	pending int               // evaluations of the round that are not done
	waiting int               // those of them that have not begun

	shareOf func(*queueItem) string // set by tests
}

// queueItem is one evaluation, with the tunnels and requests that it applies to.
type queueItem struct {
	question question
	open     []admitted
	pass     *pass

	share   *share
	round   int
	charged time.Duration // added in advance to the time that the share has used
}

// share is what one repository has used and what it waits for.
type share struct {
	key      string
	items    []*queueItem
	used     time.Duration // by evaluations that are done, and charged for those in progress
	expected time.Duration // of one evaluation
	running  bool
}

func (s *share) rank() time.Duration { return s.used + s.expected }

func newFairQueue() *fairQueue {
	q := &fairQueue{shares: map[string]*share{}, shareOf: func(i *queueItem) string {
		if p := i.question.principal; p != nil {
			return p.Workspace.UUID + "/" + p.Repository.UUID
		}
		return ""
	}}
	q.changed = sync.NewCond(&q.mu)
	return q
}

// replace queues items in place of all waiting ones. A pass in progress continues, and p is
// merged into it. replace returns the pass that counts the outcomes of the items, and whether
// the pass is done because there are no items.
func (q *fairQueue) replace(p *pass, items []*queueItem) (counts *pass, done bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.pass != nil {
		q.pass.absorb(p)
		p = q.pass
	}
	q.pass, q.pending, q.waiting, q.ready = p, len(items), len(items), q.ready[:0]
	q.round++
	for _, s := range q.shares {
		s.items = nil
	}
	for _, item := range items {
		s := q.shareFor(item)
		item.share, item.pass, item.round = s, p, q.round
		s.items = append(s.items, item)
	}
	for key, s := range q.shares {
		switch {
		case s.running:
		case len(s.items) > 0:
			heap.Push(&q.ready, s)
		default:
			delete(q.shares, key)
		}
	}
	if len(items) == 0 {
		q.pass = nil
		return p, true
	}
	q.changed.Broadcast()
	return p, false
}

// shareFor returns the share of an item's repository. The expected time of a new share is
// that of its admission's evaluation.
func (q *fairQueue) shareFor(item *queueItem) *share {
	key := q.shareOf(item)
	s := q.shares[key]
	if s == nil {
		s = &share{key: key}
		q.shares[key] = s
	}
	if s.used == 0 {
		s.expected = max(s.expected, item.open[0].admission.Decision.Duration)
	}
	return s
}

// wait returns the next item. ok is false once the queue is closed.
func (q *fairQueue) wait() (item *queueItem, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for !q.closed && len(q.ready) == 0 {
		q.changed.Wait()
	}
	if q.closed {
		return nil, false
	}
	return q.pop(), true
}

// pop removes the next item. The caller holds the lock, and ready is not empty.
func (q *fairQueue) pop() *queueItem {
	s := heap.Pop(&q.ready).(*share)
	item := s.items[0]
	s.items = s.items[1:]
	item.charged = s.expected
	s.used += item.charged
	s.running = true
	q.waiting--
	return item
}

// passState is the state of an item's pass after the item was evaluated.
type passState int

const (
	passContinues passState = iota
	passEnds                // this was its last item
	passEnded               // it ended before: the item was replaced during its evaluation
)

// done reports the duration and the outcome of an item's evaluation.
func (q *fairQueue) done(item *queueItem, duration time.Duration, o itemOutcome) passState {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := item.share
	s.running = false
	s.used += duration - item.charged
	s.expected = duration // the latest is the best estimate
	if len(s.items) > 0 {
		heap.Push(&q.ready, s)
		q.changed.Signal()
	} else {
		delete(q.shares, s.key)
	}
	replaced := item.round != q.round
	if replaced {
		o.failed = 0 // it is evaluated again
	}
	item.pass.count(o)
	if replaced {
		if item.pass != q.pass {
			return passEnded
		}
		return passContinues
	}
	if q.pending--; q.pending > 0 {
		return passContinues
	}
	q.pass = nil
	return passEnds
}

func (q *fairQueue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.waiting
}

func (q *fairQueue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.changed.Broadcast()
}

// shareHeap implements [heap.Interface].
type shareHeap []*share

func (h shareHeap) Len() int           { return len(h) }
func (h shareHeap) Less(i, j int) bool { return h[i].rank() < h[j].rank() }
func (h shareHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements [heap.Interface].
func (h *shareHeap) Push(x any) { *h = append(*h, x.(*share)) }

// Pop implements [heap.Interface].
func (h *shareHeap) Pop() any {
	last := len(*h) - 1
	s := (*h)[last]
	*h = (*h)[:last]
	return s
}

// question has everything that a decision depends on, except the time. The principal is
// that of the admission: names are not looked up again.
type question struct {
	principal *identity.Principal
	action    policy.Action
	target    destination.Target
	http      *policy.HTTPRequest // its own for each request, nil for a tunnel
	client    netip.Addr
}

// request returns the policy request for the question at a time.
func (q *question) request(now time.Time) *policy.Request {
	return &policy.Request{Principal: q.principal, Action: q.action, Target: q.target, HTTP: q.http, ClientAddress: q.client, Time: now}
}
