package writer

import (
	"fmt"
	"runtime"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// run is the committer.
func (l *Log) run() {
	defer close(l.done)
	defer l.committer.discard()
	ticker := time.NewTicker(heartbeat)
	defer ticker.Stop()

	g := newGroup(l.writer)
	for l.gather(g, ticker.C) {
		l.accompanied = g.companions > 0
		if len(g.rows) > 0 && !l.commit(g) {
			l.abandon(g)
			return
		}
		g.reset()
		if l.failed() || l.ctx.Err() != nil {
			l.abandon(g)
			return
		}
	}
	l.number(g, l.ended(), nil)
	if !l.commit(g) {
		l.abandon(g)
		return
	}
	l.noteAcknowledged(true)
	l.clean = true
}

func (l *Log) ended() *audit.Event {
	e := &audit.Event{Time: time.Now(), Kind: audit.KindWriterEnded}
	e.Normalise()
	return e
}

// gather waits for something to do, and fills the group with what is waiting.
// It is false when the log is closed and nothing is left.
func (l *Log) gather(g *group, ticks <-chan time.Time) bool {
	if len(l.pending) == 0 { // what they led to is durable
		l.removeTails()
	}
	for _, e := range l.pending {
		l.number(g, e, nil)
	}
	l.pending = l.pending[:0]
	if len(g.rows) == 0 && !l.takeNext(g) {
		if fill, open := l.waitForEvent(g, ticks); !fill {
			return open
		}
	}
	defer l.queue.announce()
	if l.queue.len() < splitRows {
		// The callers whom the last group released are about to record again: let them run,
		// or groups alternate between all of them and one.
		runtime.Gosched()
	}
	l.fill(g, groupLimit(l.queue.len()))
	return true
}

// splitRows is the least number of events that are worth a group of their own.
const splitRows = 64

// groupLimit returns the maximum number of events of the next group. If many events wait,
// the group leaves half of them for the following group: while the database writes one half,
// the callers of the other half, which is durable, record again.
func groupLimit(waiting int) int {
	if waiting < 2*splitRows {
		return groupRows
	}
	return min(groupRows, (waiting+1)/2)
}

// waitForEvent waits for an event or for another task. fill is false where there is
// nothing to add to the group; open is false where the log is closed and nothing is left.
func (l *Log) waitForEvent(g *group, ticks <-chan time.Time) (fill, open bool) {
	select {
	case <-l.queue.ready:
		l.takeNext(g)
		return true, true
	case result := <-l.reconnects:
		l.resume(result, nil)
	case <-ticks:
		l.recordHeartbeat()
	case <-l.closing:
		waiting := l.queue.len() > 0
		return waiting, waiting
	case <-l.ctx.Done():
	}
	return false, true
}

// fill adds waiting events until the group has limit events or is full, or until its batch
// window ends.
func (l *Log) fill(g *group, limit int) {
	var batchWindow <-chan time.Time
	for len(g.rows) < limit && !g.full() {
		if l.takeNext(g) {
			continue
		}
		if g.urgent || len(g.rows) == 0 {
			return
		}
		if batchWindow == nil {
			batchWindow = time.After(endsWait)
		}
		select {
		case <-l.queue.ready:
		case <-batchWindow:
			return
		case <-l.closing:
			return
		case <-l.ctx.Done():
			return
		}
	}
}

// endsWait is the batch window of ends: only a goroutine waits for them that has
// nothing left to do, and a flush of their own would cost as much
// as that of a decision.
const endsWait = 5 * time.Millisecond

// takeNext takes the next event that the group may hold; false: there is none. After a group
// with companions the events without one come first, and need not share their group if one
// of them is urgent. A decision therefore waits for one group with companions at most, and
// deliveries get every second group at least.
func (l *Log) takeNext(g *group) bool {
	order := [...]class{accompanied, plain}
	if l.accompanied {
		order = [...]class{plain, accompanied}
	}
	for _, c := range order {
		if c == accompanied && !l.mayAccompany(g) {
			continue
		}
		if w := l.queue.dequeue(c); w != nil {
			l.dequeue(g, w)
			return true
		}
	}
	return false
}

// mayAccompany reports whether the group may hold another companion.
func (l *Log) mayAccompany(g *group) bool {
	if l.accompanied && g.urgent && g.companions == 0 {
		return false // decisions wait, and have waited for the previous group
	}
	limit := groupCompanions
	if time.Since(l.decided) < decidedFor {
		limit = groupCompanionsBeside
	}
	return g.companions < limit
}

// decidedFor is how long after an urgent event without companion groups are kept short for
// the next one.
const decidedFor = time.Second

// dequeue gives a waiter's event its number. From here on it will be written.
func (l *Log) dequeue(g *group, w *waiter) {
	if w.companion != nil {
		l.dequeueCompanion(g, w)
		return
	}
	e := w.event
	if !e.IsClosing() {
		l.decided = time.Now()
	}
	if w.state.CompareAndSwap(queued, taken) {
		l.number(g, e, w)
		return
	}
	if isAllow(e) {
		refuse(e)
	}
	l.number(g, e, nil)
}

// blockedPause is how long no companion is written after one did not get its lock in time:
// the waits use at most a tenth of the writer's time.
const blockedPause = 5 * time.Second

// dequeueCompanion numbers an event that has a companion. An event whose caller left is
// dropped, and so is one during an outage: neither has a number yet.
func (l *Log) dequeueCompanion(g *group, w *waiter) {
	if !w.state.CompareAndSwap(queued, taken) {
		return
	}
	var err error
	if o := l.currentOutage(); o != nil && l.session == nil {
		err = o.error()
	} else if time.Since(l.companionsBlocked) < blockedPause {
		err = fmt.Errorf("%w: another session holds the lock that the change needs", ErrUnavailable)
	} else {
		l.number(g, w.event, w)
		return
	}
	if w.state.CompareAndSwap(taken, finished) {
		l.stats.rejected.Add(1)
		w.done <- err
	}
}

// commit makes the group durable, however long that takes, and answers those who
// wait. It is false when the log has to stop without that.
func (l *Log) commit(g *group) bool {
	if l.session != nil {
		err := l.session.writeWithin(g, l.config.WriteTimeout)
		if err == nil {
			l.acknowledged.keep(g)
			l.stats.recorded.Add(int64(len(g.rows)))
			l.release(g, nil)
			l.noteAcknowledged(false)
			return true
		}
		l.beginOutage(err)
	}
	patience := l.patience()
	for {
		select {
		case result := <-l.reconnects:
			if l.resume(result, g) {
				return true
			}
			if l.failed() {
				return false
			}
		case <-patience:
			if l.writeJournal(g) {
				return true
			}
			patience = time.After(journalRetry)
		case <-l.ctx.Done():
			return false
		}
	}
}

// abandon leaves the group and the queue unwritten. Callers that wait detect it by
// the end of the committer.
func (l *Log) abandon(g *group) {
	l.stats.unwritten.Add(int64(len(g.rows) + l.queue.len() + len(l.pending)))
	l.log.Error("audit log stopped with events not written", "events_not_written", l.stats.unwritten.Load(), "error", l.Available())
}

// recordHeartbeat tries an idle connection and looks after the partitions.
func (l *Log) recordHeartbeat() {
	idle := !l.busy
	l.busy = false
	if l.session == nil {
		return
	}
	l.heartbeats++
	l.noteAcknowledged(false)
	if l.heartbeats%heartbeatsPerPartitionCheck == 0 {
		if err := l.session.maintain(l.ctx, l.config.WriteTimeout); err != nil {
			l.log.Warn("partitions were not made ahead; they are made when they are needed", "error", err)
		}
		if err := l.settle(l.session, nil); err != nil {
			l.beginOutage(err)
			return
		}
		l.replayLeftovers()
	}
	if idle {
		if err := l.session.ping(l.ctx, l.config.WriteTimeout); err != nil {
			l.beginOutage(err)
		}
	}
}
