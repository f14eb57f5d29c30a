package writer

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/sallyport/sallyport/internal/database"
)

// beginOutage begins an outage, or continues one.
func (l *Log) beginOutage(err error) {
	err = database.Explain("write", &l.connect.Config, err)
	if l.session != nil {
		l.session.close()
		l.session = nil
	}
	if l.outage.Load() == nil {
		l.outage.Store(&outage{since: time.Now(), err: err})
		l.log.Error("audit database unavailable", "error", err)
	}
	l.dial()
}

// explain replaces the error of an outage by that of the latest attempt to connect, which
// is more exact: a write that ran into its timeout has no cause.
func (l *Log) explain(err error) {
	if o := l.outage.Load(); o != nil && !o.fatal {
		l.outage.CompareAndSwap(o, &outage{since: o.since, err: err})
	}
}

// dial connects in the background, replays most of the journal there, and sends
// the session to the committer. The first attempt after a success is made at
// once.
func (l *Log) dial() {
	if l.dialing {
		return
	}
	l.dialing = true
	failures := l.failures
	l.failures++
	go func() {
		for ; ; failures++ {
			if !l.pause(failures) {
				return
			}
			ctx, cancel := context.WithTimeout(l.ctx, 2*l.connect.ConnectTimeout)
			result, err := l.reconnect(ctx)
			cancel()
			if err != nil {
				l.attempts++
				if time.Since(l.attemptLogged) >= attemptLogInterval {
					l.log.Warn("audit database still unavailable", "attempts", l.attempts, "error", err)
					l.attemptLogged = time.Now()
				}
				l.explain(err)
				continue
			}
			select {
			case l.reconnects <- result:
			case <-l.ctx.Done():
				result.close()
			case <-l.done:
				result.close()
			}
			return
		}
	}()
}

// reconnect makes one attempt. ctx bounds the connecting alone.
func (l *Log) reconnect(ctx context.Context) (reconnected, error) {
	s, err := l.openSession(ctx)
	if err != nil {
		return reconnected{}, err
	}
	lost, err := s.missing(ctx, l.writer, &l.acknowledged)
	if isConflict(err) {
		s.close()
		return reconnected{conflict: err}, nil
	}
	if err == nil && lost != nil {
		return l.reconnectAsSuccessor(ctx, s, *lost)
	}
	var caught caughtUp
	if err == nil {
		caught, err = l.catchUp(s)
	}
	if err != nil {
		s.close()
		return reconnected{}, err
	}
	return reconnected{session: s, caught: caught}, nil
}

// reconnectAsSuccessor records over a session of another name that acknowledged
// events are missing. A second attempt uses the same name and the same events.
func (l *Log) reconnectAsSuccessor(ctx context.Context, s *session, lost loss) (reconnected, error) {
	defer s.close()
	if l.next == nil || l.next.loss != lost {
		clock, err := s.clockAhead(ctx)
		if err != nil {
			return reconnected{}, err
		}
		l.next = l.succeed(lost, clock)
	}
	another, err := l.next.begin(ctx, l)
	if err != nil {
		return reconnected{}, err
	}
	return reconnected{session: another, succession: l.next}, nil
}

// pause waits before an attempt. It is false when the log has ended.
func (l *Log) pause(failures int) bool {
	if failures == 0 {
		return l.ctx.Err() == nil
	}
	pause := min(minBackoff<<min(failures-1, 10), maxBackoff)
	timer := time.NewTimer(pause - rand.N(pause/2))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.ctx.Done():
		return false
	case <-l.done:
		return false
	}
}

// resume adopts a new session: it replays the rest of the journal, makes a group with an
// unknown outcome durable (nil: none), and ends the outage. If a step fails, the outage
// continues.
func (l *Log) resume(result reconnected, g *group) bool {
	l.dialing = false
	s := result.session
	if result.conflict != nil {
		l.fail(result.conflict)
		return false
	}
	if result.succession != nil {
		s.close()
		if err := l.become(result.succession, g); err != nil {
			l.beginOutage(err)
		} else {
			l.dial() // the next session belongs to the new name
		}
		return false
	}
	err := l.replay(s, result.caught)
	if err == nil {
		err = l.settle(s, g)
	}
	if err != nil {
		s.close()
		if _, damaged := errors.AsType[journalError](err); damaged || isConflict(err) {
			l.fail(err)
		} else {
			l.beginOutage(err)
		}
		return false
	}
	l.session, l.failures, l.attempts, l.attemptLogged = s, 0, 0, time.Time{}
	l.acknowledged.where = s.where
	l.stats.reconnects.Add(1)
	if o := l.outage.Swap(nil); o != nil {
		l.log.Info("audit database recovered", "unavailable", time.Since(o.since).Round(time.Millisecond))
	}
	if g != nil {
		l.acknowledged.keep(g)
		l.stats.recorded.Add(int64(len(g.rows)))
		l.release(g, nil)
	}
	l.replayLeftovers()
	return true
}

// settle makes a group with an unknown outcome durable (nil: none), and checks the
// settings of the recovered database.
func (l *Log) settle(s *session, g *group) error {
	ctx, cancel := context.WithTimeout(l.ctx, settleTimeout)
	defer cancel()
	if _, err := l.examine(ctx, s); err != nil {
		return err
	}
	if g == nil {
		return nil
	}
	_, err := s.settle(ctx, g)
	return err
}
