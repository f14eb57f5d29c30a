package fair

import (
	"cmp"
	"time"
)

// forgetAfter is how long a subject that holds nothing is remembered where it has
// a rate: its tokens are full again after a second.
const forgetAfter = 2 * time.Second

func (l *Limiter) find(s Subject) *step {
	key := repositoryKey{s.Issuer, s.Repository}
	r := l.repositories[key]
	if r == nil {
		r = &repository{key: key, steps: make(map[string]*step)}
		l.repositories[key] = r
	}
	st := r.steps[s.Step]
	if st == nil {
		st = &step{name: s.Step, repository: r}
		r.steps[s.Step] = st
	}
	return st
}

func (l *Limiter) levels(st *step) [3]*bucket {
	return [3]*bucket{&st.bucket, &st.repository.bucket, &l.total}
}

func (l *Limiter) limits() [3]*Limit {
	return [3]*Limit{&l.config.Step, &l.config.Repository, &l.config.Total}
}

// over returns the first limit that one more acquisition would exceed, nil for none.
func (l *Limiter) over(st *step, bytes int64, now time.Time) *OverError {
	limits := l.limits()
	for i, u := range l.levels(st) {
		if over := l.overAt(u, limits[i], Level(i), bytes, now); over != nil {
			return over
		}
	}
	if l.overWidth(st.repository, now) {
		return &OverError{Repository, Width, int64(l.config.Width)}
	}
	return nil
}

func (l *Limiter) overAt(u *bucket, limit *Limit, level Level, bytes int64, now time.Time) *OverError {
	u.refill(limit, now)
	switch {
	case limit.Slots > 0 && u.held >= limit.Slots:
		return &OverError{level, Slots, int64(limit.Slots)}
	case level == Repository && l.config.WaitForSlots && l.config.Total.Slots > 0 && u.held >= l.config.Total.Slots-l.total.held && l.total.held < l.config.Total.Slots:
		// At most as many as are free.
		return &OverError{level, Slots, int64(l.config.Total.Slots - l.total.held)}
	case limit.Bytes > 0 && u.bytes+bytes > limit.Bytes:
		return &OverError{level, Bytes, limit.Bytes}
	case limit.Rate > 0 && u.tokens < 1:
		return &OverError{level, Rate, int64(limit.Rate)}
	}
	return nil
}

// mayWait reports whether there is room in the queue, and a prospect of a turn
// within the wait.
func (l *Limiter) mayWait(st *step, over *OverError) bool {
	if l.config.Wait <= 0 || over.Kind == Bytes || over.Kind == Slots && !l.config.WaitForSlots {
		return false
	}
	limits, levels := l.limits(), l.levels(st)
	if r := st.repository; r.waiting > 0 && r.waiting >= l.config.Total.Waiting-l.total.waiting {
		return false // at most as many as are free, as with the slots
	}
	for i, u := range levels {
		if u.waiting >= limits[i].Waiting {
			return false
		}
		if rate := float64(limits[i].Rate); rate > 0 && float64(l.ahead(st, Level(i)))+1-u.tokens >= rate*l.config.Wait.Seconds() {
			return false
		}
	}
	return true
}

// ahead returns how many acquisitions are served before a new one of a step, at a
// level. Round robin bounds the part of the others' queues.
func (l *Limiter) ahead(st *step, level Level) int {
	r := st.repository
	ofRepository := min(r.waiting, (st.waiting+1)*(r.queue.len+1)-1)
	switch level {
	case Step:
		return st.waiting
	case Repository:
		return ofRepository
	}
	return min(l.total.waiting, (ofRepository+1)*(l.queue.len+1)-1)
}

func (l *Limiter) grant(st *step, bytes int64, now time.Time) Slot {
	for _, u := range l.levels(st) {
		u.held++
		u.bytes += bytes
		u.tokens--
	}
	return Slot{limiter: l, step: st, bytes: bytes, unsettled: l.begun(st.repository, now)}
}

func (l *Limiter) release(st *step, bytes int64) {
	for _, u := range l.levels(st) {
		u.held--
		u.bytes -= bytes
	}
	l.dispatch(time.Now())
	l.forget(st)
}

func (l *Limiter) enqueue(st *step, bytes int64) *waiter {
	w := &waiter{step: st, bytes: bytes, granted: make(chan struct{})}
	w.queued = st.waiters.push(w)
	if st.queued == nil {
		st.queued = st.repository.queue.push(st)
	}
	if st.repository.queued == nil {
		st.repository.queued = l.queue.push(st.repository)
	}
	for _, u := range l.levels(st) {
		u.waiting++
	}
	return w
}

func (l *Limiter) dequeue(w *waiter) {
	st := w.step
	st.waiters.remove(w.queued)
	for _, u := range l.levels(st) {
		u.waiting--
	}
	if st.waiters.len == 0 {
		st.repository.queue.remove(st.queued)
		st.queued = nil
	}
	if st.repository.queue.len == 0 {
		l.queue.remove(st.repository.queued)
		st.repository.queued = nil
	}
}

// dispatch grants waiting acquisitions within the limits: round robin among the
// waiting repositories, and among the waiting steps of each.
func (l *Limiter) dispatch(now time.Time) {
	defer l.schedule(now)
	l.expireUnsettled(now)
	for granted := true; granted && l.queue.len > 0; {
		granted = false
		for e, n := l.queue.first, l.queue.len; n > 0; n-- {
			next := e.next
			if l.overAt(&l.total, &l.config.Total, Total, 0, now) != nil {
				return
			}
			granted = l.turn(e.value, now) || granted
			e = next
		}
	}
}

// turn grants one acquisition of a repository, if one may be granted.
func (l *Limiter) turn(r *repository, now time.Time) bool {
	if l.overAt(&r.bucket, &l.config.Repository, Repository, 0, now) != nil || l.overWidth(r, now) {
		return false
	}
	for e := r.queue.first; e != nil; e = e.next {
		w := e.value.waiters.first.value
		if l.over(w.step, w.bytes, now) != nil {
			continue
		}
		l.dequeue(w)
		w.slot = l.grant(w.step, w.bytes, now)
		close(w.granted)
		if w.step.queued != nil {
			r.queue.toEnd(w.step.queued)
		}
		if r.queued != nil {
			l.queue.toEnd(r.queued)
		}
		return true
	}
	return false
}

// schedule sets a timer for the next token, or the end of the next unsettled acquisition,
// which serves the queue. Slots need no timer: their release serves the queue.
func (l *Limiter) schedule(now time.Time) {
	if l.queue.len == 0 {
		return
	}
	next := l.nextToken()
	if settled := l.nextSettled(now); next == 0 || settled > 0 && settled < next {
		next = settled
	}
	if next == 0 || l.wake != nil && !now.Add(next).Before(l.wakeAt) {
		return
	}
	if l.wake != nil {
		l.wake.Stop()
	}
	l.wakeAt = now.Add(next)
	l.wake = time.AfterFunc(next, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.wake = nil
		l.dispatch(time.Now())
	})
}

// nextToken is how long it takes until a level that has waiters gets a token; 0
// where all wait for slots.
func (l *Limiter) nextToken() time.Duration {
	var next time.Duration
	consider := func(u *bucket, limit *Limit) {
		if limit.Rate == 0 || u.tokens >= 1 {
			return
		}
		wait := time.Duration((1 - u.tokens) / float64(limit.Rate) * float64(time.Second))
		if wait = max(wait, time.Millisecond); next == 0 || wait < next {
			next = wait
		}
	}
	consider(&l.total, &l.config.Total)
	for r := l.queue.first; r != nil; r = r.next {
		consider(&r.value.bucket, &l.config.Repository)
		for st := r.value.queue.first; st != nil; st = st.next {
			consider(&st.value.bucket, &l.config.Step)
		}
	}
	return next
}

// refill adds the tokens since the last refill. A new subject has a full bucket.
func (u *bucket) refill(limit *Limit, now time.Time) {
	rate, burst := float64(limit.Rate), float64(cmp.Or(limit.Burst, limit.Rate))
	if u.at.IsZero() {
		u.tokens = burst
	} else if passed := now.Sub(u.at); passed > 0 {
		u.tokens = min(burst, max(u.tokens, 0)+passed.Seconds()*rate)
	}
	u.at = now
}

// forget drops a step that holds nothing and waits for nothing: at once where it
// has no rate, and otherwise when its tokens are full again.
func (l *Limiter) forget(st *step) {
	if st.held > 0 || st.waiting > 0 {
		return
	}
	if l.config.Step.Rate == 0 && l.config.Repository.Rate == 0 {
		l.drop(st)
		return
	}
	if !l.sweeping {
		l.sweeping = true
		time.AfterFunc(forgetAfter, l.sweep)
	}
}

func (l *Limiter) drop(st *step) {
	r := st.repository
	delete(r.steps, st.name)
	if len(r.steps) > 0 {
		return
	}
	delete(l.repositories, r.key)
	if len(l.repositories) == 0 {
		l.repositories = make(map[repositoryKey]*repository) // a map keeps its size
	}
}

// sweep drops idle subjects, and runs again while others may become idle.
func (l *Limiter) sweep() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	left := false
	for _, r := range l.repositories {
		before := len(r.steps)
		for _, st := range r.steps {
			switch {
			case st.held > 0 || st.waiting > 0:
			case now.Sub(st.at) >= forgetAfter:
				l.drop(st)
			default:
				left = true
			}
		}
		if n := len(r.steps); n > 0 && n < before/2 {
			kept := make(map[string]*step, n)
			for name, st := range r.steps {
				kept[name] = st
			}
			r.steps = kept
		}
	}
	l.sweeping = left
	if left {
		time.AfterFunc(forgetAfter, l.sweep)
	}
}
