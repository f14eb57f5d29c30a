package fair

import (
	"errors"
	"fmt"
	"time"
)

// contendedFor is how long a repository counts as contended after an acquisition of
// another one.
const contendedFor = 5 * time.Second

// sparseFor is how long the narrow width applies after an acquisition of a sparse repository,
// and how long a repository counts as busy after acquisitions at the same time.
const sparseFor = 200 * time.Millisecond

// validateWidth returns an error if the fields of the width contradict each other.
func (c Config) validateWidth() error {
	switch {
	case c.Width < 0 || c.Narrow < 0:
		return errors.New("fair: a width is negative: write 0 for no width")
	case c.Narrow > c.Width:
		return fmt.Errorf("fair: the narrow width (%d) exceeds the width (%d): lower the first or raise the second", c.Narrow, c.Width)
	case c.Width > 0 && c.SettleWithin <= 0:
		return errors.New("fair: a width needs SettleWithin: acquisitions that never settle would block all others")
	}
	return nil
}

// unsettled is an acquisition before [Slot.Settle].
type unsettled struct {
	repository *repository // nil: settled
	at         time.Time
}

// acquired is the latest acquisition of a repository.
type acquired struct {
	by repositoryKey
	at time.Time
}

// Settle notes that the work which an acquisition causes at its beginning is done, although
// the slot is held for longer. Waiting acquisitions over [Config.Width] then get their turn.
func (l *Slot) Settle() {
	if l.limiter == nil || l.unsettled == nil {
		return
	}
	l.limiter.mu.Lock()
	defer l.limiter.mu.Unlock()
	l.settle()
	if l.limiter.queue.len > 0 {
		l.limiter.dispatch(time.Now())
	}
}

// settle is Settle with the lock held, and serves no queue.
func (l *Slot) settle() {
	if l.unsettled != nil {
		l.limiter.settled(l.unsettled)
		l.unsettled = nil
	}
}

// begun counts a new acquisition as unsettled. It returns nil if the limiter has no width.
func (l *Limiter) begun(r *repository, now time.Time) *element[unsettled] {
	if l.config.Width == 0 {
		return nil
	}
	if l.latest[0].by == r.key {
		l.latest[0].at = now
	} else {
		l.latest[0], l.latest[1] = acquired{r.key, now}, l.latest[0]
	}
	if r.unsettled > 0 || r.waiting > 0 {
		r.busyAt = now
	} else if now.Sub(r.busyAt) >= sparseFor {
		l.sparseAt = now
	}
	r.unsettled++
	return l.unsettled.push(unsettled{r, now})
}

// settled ends the count that begun began. Further calls do nothing.
func (l *Limiter) settled(e *element[unsettled]) {
	if e.value.repository == nil {
		return
	}
	e.value.repository.unsettled--
	e.value.repository = nil
	l.unsettled.remove(e)
}

// overWidth reports whether a repository has to wait until an acquisition is settled. Each
// repository may always have one unsettled acquisition. A repository whose acquisitions come
// one after the other therefore never waits.
func (l *Limiter) overWidth(r *repository, now time.Time) bool {
	return l.config.Width > 0 && r.unsettled > 0 && l.unsettled.len >= l.width(now) && l.isContended(r, now)
}

// width is how many acquisitions may be unsettled now.
func (l *Limiter) width(now time.Time) int {
	if l.config.Narrow > 0 && now.Sub(l.sparseAt) < sparseFor {
		return l.config.Narrow
	}
	return l.config.Width
}

// isContended reports whether another repository has acquired recently.
func (l *Limiter) isContended(r *repository, now time.Time) bool {
	for _, a := range l.latest {
		if a.by != r.key && !a.at.IsZero() && now.Sub(a.at) < contendedFor {
			return true
		}
	}
	return false
}

// expireUnsettled settles the acquisitions that are unsettled for [Config.SettleWithin].
func (l *Limiter) expireUnsettled(now time.Time) {
	for e := l.unsettled.first; e != nil && now.Sub(e.value.at) >= l.config.SettleWithin; e = l.unsettled.first {
		l.settled(e)
	}
}

// nextSettled returns the time until the oldest unsettled acquisition is settled by
// expireUnsettled; 0 if there is none.
func (l *Limiter) nextSettled(now time.Time) time.Duration {
	if e := l.unsettled.first; e != nil {
		return max(e.value.at.Add(l.config.SettleWithin).Sub(now), time.Millisecond)
	}
	return 0
}
