package writer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/sallyport/sallyport/audit"
	auditpg "github.com/sallyport/sallyport/audit/postgres"
	"github.com/sallyport/sallyport/internal/durable"
)

// openJournal prepares the journal's folder, and replays the journals of processes that
// have ended.
func (l *Log) openJournal(ctx context.Context) error {
	c := l.config
	if c.Journal == "" {
		return nil
	}
	if err := os.MkdirAll(c.Journal, 0o700); err != nil {
		return fmt.Errorf("make the journal's folder: %w", err)
	}
	if info, err := os.Stat(c.Journal); err != nil || info.Mode().Perm()&0o002 != 0 {
		return errors.Join(err, fmt.Errorf("everybody may write to the journal's folder %s, and so to the log: make it this user's alone (chmod 0700)", c.Journal))
	}
	l.journal = &journal{folder: c.Journal, writer: l.writer, secret: l.secret, spool: c.Spool, maxBytes: c.JournalBytes, maxAge: c.JournalAge}
	if err := l.replayAllLeft(ctx); err != nil {
		return fmt.Errorf("%w; nothing starts before that, so that no event is lost: make the file readable, or move it away and keep it", err)
	}
	return nil
}

// replayAllLeft replays every journal whose process has ended. The journals of this and
// other running processes are locked.
func (l *Log) replayAllLeft(ctx context.Context) error {
	entries, err := os.ReadDir(l.config.Journal)
	if err != nil {
		return fmt.Errorf("list journals: %w", err)
	}
	for _, entry := range entries { // the names sort by when their writer began
		if !strings.HasSuffix(entry.Name(), journalSuffix) {
			continue
		}
		path := filepath.Join(l.config.Journal, entry.Name())
		if err := l.replayLeft(ctx, path); err != nil {
			return fmt.Errorf("write what an earlier process left in its journal %s: %w", path, err)
		}
	}
	return nil
}

// replayLeftovers replays the journals and tail files of earlier processes that were killed
// before they could write them to the database.
func (l *Log) replayLeftovers() {
	if l.journal == nil || l.session == nil {
		return
	}
	if err := l.compareTails(l.ctx, l.session); err != nil {
		l.log.Error("acknowledged events of an earlier process not compared yet; retrying", "error", err)
		return
	}
	if err := l.replayAllLeft(l.ctx); err != nil {
		l.log.Error("a journal of another process is not written to the database yet; it is tried again", "error", err)
	}
}

// replayLeft replays the journal of a process that has ended. A journal that cannot be
// written completely is kept under another name, and an event records that.
func (l *Log) replayLeft(ctx context.Context, path string) error {
	file, err := openLeft(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // its owner has removed it
	}
	if err != nil {
		return err
	}
	defer file.Close()
	if err := flock(file); err != nil {
		return nil // its owner is running
	}
	sum := replayed{writer: strings.TrimSuffix(filepath.Base(path), journalSuffix)}
	err = l.admitLeft(ctx, file, sum.writer)
	if err == nil {
		err = replayInto(ctx, l.session, file, &sum)
	}
	if own := l.session.authenticate(ctx, l.secret); own != nil {
		return errors.Join(err, own)
	}
	switch {
	case err == io.EOF: // its process ended before anything was acknowledged
		l.log.Info("empty journal removed", "writer", sum.writer)
	case err == nil:
		l.log.Info("journal replayed", "writer", sum.writer, "events", sum.events, "new", sum.fresh, "allows", sum.allows)
		l.pending = append(l.pending, sum.event())
	case errors.Is(err, errJournalDamaged), errors.Is(err, errJournalForeign), isConflict(err):
		return l.quarantine(path, &sum, err)
	default:
		return err
	}
	return errors.Join(os.Remove(path), durable.SyncDirectory(l.config.Journal))
}

// admitLeft checks that a journal belongs to this log. It first ends the sessions of the
// journal's process, so that no commit of that process has an unknown outcome.
func (l *Log) admitLeft(ctx context.Context, file io.ReaderAt, writer string) error {
	j, err := openJournal(io.NewSectionReader(file, 0, math.MaxInt64))
	if err != nil {
		return err
	}
	if j.Writer != writer && j.Continues != writer {
		return fmt.Errorf("%w: its name has writer %s, and its header %s", errJournalDamaged, writer, j.Writer)
	}
	if err := l.session.endOthers(ctx, auditpg.ApplicationName(writer)); err != nil {
		return err
	}
	if j.Writer != writer {
		writer = j.Writer
		if err := l.session.endOthers(ctx, auditpg.ApplicationName(writer)); err != nil {
			return err
		}
	}
	var known bool
	if err := l.session.conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM audit.events WHERE writer = $1)
		OR EXISTS (SELECT FROM audit.leaves WHERE writer = $1)`, writer).Scan(&known); err != nil {
		return fmt.Errorf("look for writer %s: %w", writer, err)
	}
	if !known { // a writer's first event is never in a journal
		return errJournalForeign
	}
	return l.session.authenticateLeft(ctx, writer, j.Secret)
}

// quarantine keeps a journal that could not be replayed, or only in part, for
// the investigation, under a name that no other has.
func (l *Log) quarantine(path string, sum *replayed, why error) error {
	kind := "damaged"
	cause := audit.Attribute{Name: "damage", Value: why.Error()}
	if errors.Is(why, errJournalCut) {
		kind = "cut"
		cause = audit.Attribute{Name: "cut_short", Value: "its last write was not finished when its process was killed; nothing that was acknowledged is missing, unless the file was cut afterwards"}
	}
	aside := path + "." + kind
	for n := 2; ; n++ {
		if _, err := os.Lstat(aside); errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			return err
		}
		aside = fmt.Sprintf("%s.%s-%d", path, kind, n)
	}
	if kind == "cut" {
		l.log.Warn("journal replayed up to its last write, which was not finished; it is kept", "writer", sum.writer, "events", sum.events, "kept_as", aside)
	} else {
		l.log.Error("a journal could not be written to the database, or only as far as its damage; it is kept",
			"writer", sum.writer, "events", sum.events, "kept_as", aside, "error", why)
	}
	l.pending = append(l.pending, sum.event(cause, audit.Attribute{Name: "kept_as", Value: filepath.Base(aside)}))
	return errors.Join(os.Rename(path, aside), durable.SyncDirectory(l.config.Journal))
}
