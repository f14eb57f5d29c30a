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
	shares  map[string]*share // those with something to evaluate, or under evaluation
	ready   shareHeap         // those with something to evaluate and nothing under evaluation
	pass    *pass             // that the items are of; nil: none
	round   int               // of replace
	left    int               // evaluations of the round that are not done
	waiting int               // and that were not begun

	shareOf func(*queueItem) string // set by tests
}

// queueItem is one evaluation, with the tunnels and requests that it applies to.
type queueItem struct {
	question question
	open     []admitted
	pass     *pass

	share   *share
	round   int
	charged time.Duration // to the share, in advance
}

// share is what one repository has used and what it waits for.
type share struct {
	key      string
	items    []*queueItem
	used     time.Duration // by its evaluations that are done, and charged for those under way
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

// replace queues items instead of all that waits. While a pass is not done, it is
// continued and p is merged into it. It returns the pass that counts what the items
// come to, and whether that is done because there is nothing to evaluate.
func (q *fairQueue) replace(p *pass, items []*queueItem) (counts *pass, done bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.pass != nil {
		q.pass.absorb(p)
		p = q.pass
	}
	q.pass, q.left, q.waiting, q.ready = p, len(items), len(items), q.ready[:0]
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

// shareFor returns the share of an item's repository. What its admissions took is
// what a new share is expected to take.
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
	return q.take(), true
}

// take removes the next item. There must be one, and the lock is held.
func (q *fairQueue) take() *queueItem {
	s := heap.Pop(&q.ready).(*share)
	item := s.items[0]
	s.items = s.items[1:]
	item.charged = s.expected
	s.used += item.charged
	s.running = true
	q.waiting--
	return item
}

// What done returns of a pass.
type passState int

const (
	passContinues passState = iota
	passEnds                // by this item
	passEnded               // before: the item was replaced while its evaluation ran
)

// done returns an item after its evaluation, which took so long, and counts the outcome.
func (q *fairQueue) done(item *queueItem, took time.Duration, o itemOutcome) passState {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := item.share
	s.running = false
	s.used += took - item.charged
	s.expected = took // the latest is the best estimate
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
	if q.left--; q.left > 0 {
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

// question is all that a decision depends on, except the time. The principal is that
// of the admission: names are not looked up again.
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
