package writer

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/sallyport/sallyport/internal/database"
)

// lost begins an outage, or continues with one.
func (l *Log) lost(err error) {
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

// explain notes why the outage has not ended yet, which is more exact than how it
// began: a write that was given up after some seconds does not know why.
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
			back, err := l.reconnect(ctx)
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
			case l.reconnects <- back:
			case <-l.ctx.Done():
				back.close()
			case <-l.done:
				back.close()
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

// resume takes a new session: what is left in the journal is replayed, then the
// group whose outcome is not known is settled (nil: there is none), and then the
// outage is over. Where that fails it continues.
func (l *Log) resume(back reconnected, g *group) bool {
	l.dialing = false
	s := back.session
	if back.conflict != nil {
		l.fail(back.conflict)
		return false
	}
	if back.succession != nil {
		s.close()
		if err := l.become(back.succession, g); err != nil {
			l.lost(err)
		} else {
			l.dial() // and find out what else there is to do, under the new name
		}
		return false
	}
	err := l.replay(s, back.caught)
	if err == nil {
		err = l.settle(s, g)
	}
	if err != nil {
		s.close()
		if _, damaged := errors.AsType[journalError](err); damaged || isConflict(err) {
			l.fail(err)
		} else {
			l.lost(err)
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
	l.lookForLeft()
	return true
}

// settle makes a group durable of which nothing is known (nil: there is none),
// and checks the settings of the database that came back.
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
