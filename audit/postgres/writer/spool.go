package writer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// patience is how long a group waits for the database before it goes to the
// journal: a moment where the connection was just lost, nothing once it is known
// to be unavailable, forever (nil) without a journal.
func (l *Log) patience() <-chan time.Time {
	if l.journal == nil {
		return nil
	}
	wait := time.Duration(0)
	if o := l.outage.Load(); o == nil || time.Since(o.since) < grace {
		wait = grace
	}
	return time.After(wait)
}

// journalRetry is the time between two attempts to write a group to the journal: a disk
// may have space again before the database recovers.
const journalRetry = time.Second

// writeJournal makes the group durable in the journal and answers those who wait.
// It is false where the journal cannot take it.
func (l *Log) writeJournal(g *group) bool {
	first := l.journal.empty()
	if err := l.journal.append(g, time.Now()); err != nil {
		if l.stats.journalFull.CompareAndSwap(false, true) {
			l.log.Error("journal full: nothing is recorded or allowed until it has space or the database recovers", "error", err)
		}
		return false
	}
	if l.stats.journalFull.CompareAndSwap(true, false) {
		l.log.Info("journal accepts events again")
	}
	if first {
		l.stats.journalSince.Store(l.journal.first.UnixNano())
		if l.config.Spool {
			l.log.Warn("audit database unavailable: decisions are recorded in the local journal", "journal", l.journal.path())
		}
	}
	l.stats.journaled.Add(int64(len(g.rows)))
	l.stats.journalBytes.Store(l.journal.size)
	l.journalUse.add(g)
	var refused error
	if o := l.outage.Load(); !l.config.Spool && o != nil {
		refused = o.error()
	}
	if g.companions > 0 {
		g.dropCompanions(l.unavailable())
	}
	if refused == nil {
		l.stats.spooled.Add(int64(g.allows()))
	}
	l.release(g, refused)
	return true
}

// unavailable is the error of a companion whose event went to the journal.
func (l *Log) unavailable() error {
	if o := l.outage.Load(); o != nil {
		return o.error()
	}
	return ErrUnavailable
}

// replayInto writes a journal to the database, group by group. What is there
// already is compared, so that it may be done again after whatever cut it short.
func replayInto(ctx context.Context, s *session, from io.Reader, sum *replayed) error {
	j, err := openJournal(from)
	if err != nil {
		return err
	}
	sum.writer, sum.spool = j.Writer, j.Spool
	return j.into(ctx, s, sum)
}

func (j *journalReader) into(ctx context.Context, s *session, sum *replayed) error {
	return j.each(func(g *group) error {
		ctx, cancel := context.WithTimeout(ctx, settleTimeout)
		defer cancel()
		fresh, err := s.settle(ctx, g)
		if err == nil {
			sum.add(g, fresh)
		}
		return err
	})
}

// catchUpRest is how much of a journal may be left to be replayed while nothing
// else is recorded.
const catchUpRest = 1 << 20

// catchUp replays our own journal but for its end, while the committer continues
// adding to it: those who record are not kept waiting for what an outage of
// hours has left. It runs outside of the committer's goroutine.
func (l *Log) catchUp(s *session) (caughtUp, error) {
	var c caughtUp
	if l.journal == nil {
		return c, nil
	}
	for {
		size := l.stats.journalBytes.Load()
		if size-c.size <= catchUpRest {
			return c, nil
		}
		file, err := os.Open(l.journal.path())
		if errors.Is(err, fs.ErrNotExist) {
			return caughtUp{}, nil // taken away; the committer still has it
		}
		if err != nil {
			return c, fmt.Errorf("replay the journal: %w", err)
		}
		err = c.replay(l.ctx, s, file, size)
		_ = file.Close() // nothing was written
		if errors.Is(err, errJournalDamaged) || err == io.EOF {
			return caughtUp{}, nil // the committer finds the same, and ends the log
		}
		if err != nil {
			return c, fmt.Errorf("replay the journal: %w", err)
		}
	}
}

// replay continues to size.
func (c *caughtUp) replay(ctx context.Context, s *session, file io.ReaderAt, size int64) error {
	section := io.NewSectionReader(file, c.size, size-c.size)
	var err error
	if c.size == 0 {
		var j *journalReader
		if j, err = openJournal(section); err != nil {
			return err
		}
		c.sum.writer, c.sum.spool = j.Writer, j.Spool
		err = j.into(ctx, s, &c.sum)
		c.last = j.last
	} else {
		j := continueJournal(section, c.sum.writer, c.last)
		err = j.into(ctx, s, &c.sum)
		c.last = j.last
	}
	if err == nil {
		c.size = size
	}
	return err
}

// A journalError ends the log: what this process wrote and synced cannot be read
// any more.
type journalError struct{ err error }

func (e journalError) Error() string {
	return "the journal of this process was changed on the disk, so that its events cannot be written to the database: " + e.err.Error() +
		"; nothing more is recorded: check the disk of data_directory, and restart with `sallyport serve`, " +
		"which writes what comes before the damage and keeps the rest beside it"
}

func (e journalError) Unwrap() error { return e.err }

// replay writes what is left of our own journal to the database.
func (l *Log) replay(s *session, c caughtUp) error {
	if l.journal == nil || l.journal.empty() {
		l.stats.journalFull.Store(false)
		return nil
	}
	var err error
	if c.size < l.journal.size {
		err = c.replay(l.ctx, s, l.journal.file, l.journal.size)
	}
	sum := &c.sum
	switch {
	case errors.Is(err, errJournalDamaged) || err == io.EOF:
		return journalError{err}
	case err != nil:
		return err
	}
	l.acknowledged.through(c.last)
	l.stats.recorded.Add(int64(sum.events))
	l.stats.journalBytes.Store(0)
	l.stats.journalSince.Store(0)
	l.journalUse.reset()
	l.stats.journalFull.Store(false)
	l.log.Info("journal replayed", "events", sum.events, "allows", sum.allows)
	l.pending = append(l.pending, sum.event())
	if err := l.journal.drop(); err != nil {
		// All of it is in the database: left where it is, it does no harm.
		l.log.Warn("the journal was written to the database, and its file could not be removed", "error", err)
	}
	return nil
}
