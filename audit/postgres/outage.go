package postgres

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/sallyport/sallyport/internal/postgres"
)

// How long between attempts to connect: doubled from the first, up to the last,
// each with up to half of it left out at random, so that many do not come at once.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = 2 * time.Second
	// settleTimeout bounds finding out what became of a group, and writing what
	// is missing. A backend that was cut off may have to be waited for.
	settleTimeout = 30 * time.Second
	// grace is how long a connection that was cut is not yet an outage.
	grace = 500 * time.Millisecond
)

// lost begins an outage, or goes on with one.
func (l *Log) lost(err error) {
	err = postgres.Explain("write", &l.connect.Config, err)
	if l.session != nil {
		l.session.close()
		l.session = nil
	}
	if l.outage.Load() == nil {
		l.outage.Store(&outage{since: time.Now(), err: err})
		l.log.Error("audit log away", "error", err)
	}
	l.dial()
}

// dial connects in the background and sends the session to the committer. The
// first attempt after a success is made at once.
func (l *Log) dial() {
	if l.dialling {
		return
	}
	l.dialling = true
	failures := l.failures
	l.failures++
	go func() {
		for ; ; failures++ {
			if !l.pause(failures) {
				return
			}
			ctx, cancel := context.WithTimeout(l.ctx, 2*l.connect.ConnectTimeout)
			s, err := openSession(ctx, l.connect)
			cancel()
			if err != nil {
				l.log.Warn("audit log still away", "error", err)
				continue
			}
			select {
			case l.back <- s:
			case <-l.ctx.Done():
				s.close()
			case <-l.done:
				s.close()
			}
			return
		}
	}()
}

// pause waits before an attempt. It is false when the log has ended.
func (l *Log) pause(failures int) bool {
	if failures == 0 {
		return l.ctx.Err() == nil
	}
	pause := min(firstPause<<min(failures-1, 10), lastPause)
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

// adopt takes a new session: what is in the journal is replayed, then the group
// whose outcome is not known is settled (nil: there is none), and then the
// outage is over. Where that fails it goes on.
func (l *Log) adopt(s *session, g *group) bool {
	l.dialling = false
	ctx, cancel := context.WithTimeout(l.ctx, settleTimeout)
	defer cancel()
	err := l.replay(ctx, s)
	if err == nil && g != nil {
		err = s.settle(ctx, g)
	}
	if err != nil {
		s.close()
		if isConflict(err) {
			l.fail(err)
		} else {
			l.lost(err)
		}
		return false
	}
	l.session, l.failures = s, 0
	l.stats.reconnects.Add(1)
	if o := l.outage.Swap(nil); o != nil {
		l.log.Info("audit log back", "away", time.Since(o.since).Round(time.Millisecond))
	}
	if g != nil {
		l.stats.recorded.Add(int64(len(g.rows)))
		l.release(g, nil)
	}
	return true
}
