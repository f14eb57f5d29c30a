package writer

import (
	"sync"

	"github.com/sallyport/sallyport/audit"
)

// queue holds the events that wait for the committer. It is bounded in events and
// in bytes, and each repository and step has a share of both (see [share]), so that
// no step uses the share or the turns of another. Events with a companion have turns of
// their own, so that the committer can leave them for a later group. It is safe for
// concurrent use.
type queue struct {
	maxEvents, maxBytes int64
	ready               chan struct{} // something was put in

	mu            sync.Mutex
	events, bytes int64
	repositories  map[repositoryKey]*repositoryQueue
	turns         [2]line[*repositoryQueue] // those with events, by class
	freed         chan struct{}             // closed when an event was dequeued; nil: no caller waits
}

// class separates events that cost a row from those that cost as much as fifty.
type class int

const (
	plain       class = iota
	accompanied       // with a companion
)

type repositoryKey struct {
	repository string
	class      class
}

// repositoryQueue is what of one repository and class waits, by step.
type repositoryQueue struct {
	key           repositoryKey
	events, bytes int64
	steps         map[string]*stepQueue
	turns         line[*stepQueue]
}

type stepQueue struct {
	name    string
	bytes   int64
	waiters line[*waiter]
}

// line is a queue that keeps its memory.
type line[T any] struct {
	items []T
	head  int
}

func (l *line[T]) len() int { return len(l.items) - l.head }

func (l *line[T]) push(v T) {
	if l.head > 0 && len(l.items) == cap(l.items) && l.head >= len(l.items)/2 {
		n := copy(l.items, l.items[l.head:])
		clear(l.items[n:])
		l.items, l.head = l.items[:n], 0
	}
	l.items = append(l.items, v)
}

// pop must not be called on an empty line.
func (l *line[T]) pop() T {
	var none T
	v := l.items[l.head]
	l.items[l.head] = none
	if l.head++; l.head == len(l.items) {
		l.items, l.head = l.items[:0], 0
	}
	return v
}

// Empty ones, for the next repository and step. With one event at a time there is
// a new one for each event.
var (
	repositoryQueues = sync.Pool{New: func() any { return &repositoryQueue{steps: make(map[string]*stepQueue)} }}
	stepQueues       = sync.Pool{New: func() any { return new(stepQueue) }}
)

func newQueue(events int, bytes int64) *queue {
	return &queue{maxEvents: int64(events), maxBytes: bytes, ready: make(chan struct{}, 1), repositories: make(map[repositoryKey]*repositoryQueue)}
}

// put puts w in, or returns what is full: "" where it is in. Otherwise freed is
// closed once it may be worth trying again.
func (q *queue) put(w *waiter) (full string, freed <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	of, size := w.event.Source, w.size
	key := repositoryKey{of.Repository, w.class()}
	r := q.repositories[key]
	if full = q.full(w.event, r, size); full != "" {
		if q.freed == nil {
			q.freed = make(chan struct{})
		}
		return full, q.freed
	}
	if r == nil {
		r = repositoryQueues.Get().(*repositoryQueue)
		r.key = key
		q.repositories[key] = r
	}
	if r.events == 0 {
		q.turns[key.class].push(r)
	}
	s := r.steps[of.Step]
	if s == nil {
		s = stepQueues.Get().(*stepQueue)
		s.name = of.Step
		r.steps[of.Step] = s
		r.turns.push(s)
	}
	s.waiters.push(w)
	s.bytes += size
	r.events, r.bytes = r.events+1, r.bytes+size
	q.events, q.bytes = q.events+1, q.bytes+size
	select {
	case q.ready <- struct{}{}:
	default:
	}
	return "", nil
}

// full names the limit that an event of that size exceeds. Ends have no share: those
// of a step are as many as what was let out.
func (q *queue) full(e *audit.Event, r *repositoryQueue, size int64) string {
	of := e.Source
	if q.events >= q.maxEvents || q.bytes > 0 && q.bytes+size > q.maxBytes {
		return "the queue"
	}
	if of == (audit.Source{}) || r == nil || e.IsClosing() {
		return ""
	}
	ofStep, stepEvents := int64(0), int64(0)
	if s := r.steps[of.Step]; s != nil {
		ofStep, stepEvents = s.bytes, int64(s.waiters.len())
	}
	if over := share(q.maxBytes, q.bytes, r.bytes, ofStep, size); over != "" {
		return over + " of the queue"
	}
	if over := share(q.maxEvents, q.events, r.events, stepEvents, 1); over != "" {
		return over + " of the queue"
	}
	return ""
}

// dequeue returns the next event of a class, nil if there is none: repositories take
// turns, and the steps of each.
func (q *queue) dequeue(of class) *waiter {
	q.mu.Lock()
	defer q.mu.Unlock()
	turns := &q.turns[of]
	if turns.len() == 0 {
		return nil
	}
	r := turns.pop()
	s := r.turns.pop()
	w := s.waiters.pop()
	s.bytes -= w.size
	r.events, r.bytes = r.events-1, r.bytes-w.size
	q.events, q.bytes = q.events-1, q.bytes-w.size
	if s.waiters.len() > 0 {
		r.turns.push(s)
	} else {
		delete(r.steps, s.name)
		stepQueues.Put(s)
	}
	if r.events > 0 {
		turns.push(r)
	} else {
		delete(q.repositories, r.key)
		repositoryQueues.Put(r)
	}
	return w
}

// announce wakes the callers that wait for a free place.
func (q *queue) announce() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.freed != nil {
		close(q.freed)
		q.freed = nil
	}
}

// len is how many events wait.
func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return int(q.events)
}

// waiting is how many bytes wait: in all, and without companions of a repository and of a
// step.
func (q *queue) waiting(of audit.Source) (all, repository, step int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if r := q.repositories[repositoryKey{of.Repository, plain}]; r != nil {
		repository = r.bytes
		if s := r.steps[of.Step]; s != nil {
			step = s.bytes
		}
	}
	return q.bytes, repository, step
}
