package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// openJournal makes the journal's folder ready, and replays what processes that
// are no more left in it.
func (l *Log) openJournal(ctx context.Context) error {
	c := l.config
	if c.Journal == "" {
		return nil
	}
	if err := os.MkdirAll(c.Journal, 0o700); err != nil {
		return fmt.Errorf("make the journal's folder: %w", err)
	}
	l.journal = &journal{folder: c.Journal, writer: l.writer, maxBytes: c.JournalBytes, maxAge: c.JournalAge}
	paths, err := filepath.Glob(filepath.Join(c.Journal, "*"+journalSuffix))
	if err != nil {
		return fmt.Errorf("look for journals: %w", err)
	}
	for _, path := range paths { // the names sort by when their writer began
		if err := l.replayLeft(ctx, path); err != nil {
			return fmt.Errorf("replay journal %s: %w", path, err)
		}
	}
	return nil
}

// replayLeft replays the journal of a process that is no more.
func (l *Log) replayLeft(ctx context.Context, path string) error {
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil // its owner was quicker
	}
	if err != nil {
		return err
	}
	defer file.Close()
	if err := flock(file); err != nil {
		return nil // its owner lives
	}
	events := 0
	err = readJournal(file, func(g *group) error {
		events += len(g.rows)
		return l.session.settle(ctx, g)
	})
	writer := strings.TrimSuffix(filepath.Base(path), journalSuffix)
	attributes := []audit.Attribute{{Name: "writer", Value: writer}, {Name: "events", Value: fmt.Sprint(events)}}
	aside := ""
	switch {
	case errors.Is(err, errJournalDamaged):
		// What follows the damage is kept for whoever investigates.
		aside = path + ".damaged"
		attributes = append(attributes, audit.Attribute{Name: "damage", Value: err.Error()}, audit.Attribute{Name: "kept_as", Value: filepath.Base(aside)})
		l.log.Error("journal damaged; what follows the damage was not replayed", "kept_as", aside, "events", events, "error", err)
	case err != nil:
		return err
	default:
		l.log.Info("journal replayed", "writer", writer, "events", events)
	}
	e := &audit.Event{Time: time.Now(), Kind: audit.KindAdmin, Action: "journal_replayed", Attributes: attributes}
	e.Normalise()
	l.owed = append(l.owed, e)
	if aside != "" {
		err = os.Rename(path, aside)
	} else {
		err = os.Remove(path)
	}
	return errors.Join(err, syncFolder(l.config.Journal))
}

// patience says how long a group waits for the database before it goes to the
// journal: a moment where the connection was just lost, nothing once it is known
// to be away, for ever (nil) without a journal.
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

// writeJournal makes the group durable in the journal and tells those who wait.
// It is false where the journal cannot take it; the group then waits for the
// database.
func (l *Log) writeJournal(g *group) bool {
	if err := l.journal.append(g, time.Now()); err != nil {
		if l.stats.journalFull.CompareAndSwap(false, true) {
			l.log.Error("journal takes no more; nothing is recorded until the database is back", "error", err)
		}
		return false
	}
	l.stats.journaled.Add(int64(len(g.rows)))
	l.stats.journalBytes.Store(l.journal.size)
	var refused error
	if o := l.outage.Load(); !l.config.Spool && o != nil {
		refused = o.error()
	}
	l.release(g, refused)
	return true
}

// replay writes the journal to the database.
func (l *Log) replay(ctx context.Context, s *session) error {
	if l.journal == nil || l.journal.empty() {
		return nil
	}
	events := 0
	err := readJournal(io.NewSectionReader(l.journal.file, 0, l.journal.size), func(g *group) error {
		events += len(g.rows)
		return s.settle(ctx, g)
	})
	if errors.Is(err, errJournalDamaged) {
		// We wrote it ourselves and it was synced: the disk has changed it.
		return conflictError{l.writer, int64(events)}
	}
	if err != nil {
		return fmt.Errorf("replay journal: %w", err)
	}
	l.stats.recorded.Add(int64(events))
	l.stats.journalBytes.Store(0)
	l.stats.journalFull.Store(false)
	l.log.Info("journal replayed", "events", events)
	return l.journal.drop()
}
