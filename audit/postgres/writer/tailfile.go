package writer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
	auditpg "github.com/sallyport/sallyport/audit/postgres"
)

const tailSuffix = ".acknowledged"

// tail is what the file holds, padded to tailBytes so that it is written over in
// one write.
type tail struct {
	Writer   string `json:"writer"`
	Sequence int64  `json:"sequence"`
	System   string `json:"system"`
	Timeline string `json:"timeline"`
	Database string `json:"database"`
	// Secret is that of the writer: only who knows it may continue the writer.
	Secret string `json:"secret"`
}

const tailBytes = 512

// noteAcknowledged writes the last acknowledged number to the file, at most once in a
// heartbeat unless it is the end.
func (l *Log) noteAcknowledged(end bool) {
	t := &l.tail
	if l.config.Acknowledged == "" || l.acknowledged.last == t.written || !end && time.Since(t.at) < heartbeat {
		return
	}
	t.at = time.Now()
	if err := l.writeTail(); err != nil {
		l.log.Warn("last acknowledged number not saved: a failover after the end of this process could lose events unnoticed", "error", err)
		return
	}
	t.written = l.acknowledged.last
}

func (l *Log) writeTail() error {
	t := &l.tail
	path := filepath.Join(l.config.Acknowledged, l.writer+tailSuffix)
	if t.file == nil || t.path != path {
		file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return err
		}
		if err := flock(file); err != nil {
			return errors.Join(err, file.Close())
		}
		t.close()
		if t.path != "" { // of the name before: that its events are lost is recorded
			_ = os.Remove(t.path)
		}
		t.file, t.path = file, path
	}
	where := l.acknowledged.where
	text, err := json.Marshal(tail{l.writer, l.acknowledged.last, where.system, where.timeline, where.database, l.secret})
	if err != nil || len(text) >= tailBytes {
		return fmt.Errorf("it has %d bytes: %w", len(text), errors.Join(err, errors.ErrUnsupported))
	}
	padded := append(text, bytes.Repeat([]byte{' '}, tailBytes-1-len(text))...)
	_, err = t.file.WriteAt(append(padded, '\n'), 0)
	return err
}

// compareTails looks whether the database has what it had acknowledged to earlier
// processes, and records what it has not. It comes before their journals are
// replayed: later numbers would hide the loss.
func (l *Log) compareTails(ctx context.Context, s *session) error {
	if l.config.Acknowledged == "" {
		return nil
	}
	if err := os.MkdirAll(l.config.Acknowledged, 0o700); err != nil {
		return fmt.Errorf("make the folder of acknowledged numbers: %w", err)
	}
	entries, err := os.ReadDir(l.config.Acknowledged)
	if err != nil {
		return fmt.Errorf("look for earlier processes: %w", err)
	}
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), tailSuffix) {
			continue
		}
		if err := l.compareTail(ctx, s, filepath.Join(l.config.Acknowledged, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (l *Log) compareTail(ctx context.Context, s *session, path string) error {
	file, err := openLeft(path)
	if err != nil {
		l.log.Warn("acknowledged numbers of an earlier process cannot be read and are ignored", "path", path, "error", err)
		return nil
	}
	defer file.Close()
	if flock(file) != nil {
		return nil // its process lives, and compares by itself
	}
	text := make([]byte, tailBytes)
	n, _ := file.ReadAt(text, 0)
	var t tail
	if err := json.Unmarshal(text[:n], &t); err != nil || t.Writer+tailSuffix != filepath.Base(path) || t.Sequence < 1 {
		l.log.Warn("acknowledged numbers of an earlier process cannot be read and are ignored", "path", path, "error", err)
		return os.Remove(path)
	}
	lost, err := s.missing(ctx, t.Writer, &acknowledged{last: t.Sequence, where: databaseID{t.System, t.Timeline, t.Database}})
	if err != nil {
		return err
	}
	if lost != nil {
		l.log.Error("events that were acknowledged to an earlier process are missing in the database: a failover or a restore lost them",
			"writer", lost.writer, "first_missing", lost.first, "last_missing", lost.last)
		l.pending = append(l.pending, lost.event(time.Now()))
		if auditpg.IsNamedBy(t.Writer, t.Secret) { // this writer is its successor
			l.lostTails, l.lostSecrets = append(l.lostTails, lost.writer), append(l.lostSecrets, t.Secret)
		}
		l.stats.lost.Add(lost.last - lost.first + 1)
	}
	l.tailsDone = append(l.tailsDone, path)
	return nil
}

// removeTails removes the files whose comparison is recorded.
func (l *Log) removeTails() {
	for _, path := range l.tailsDone {
		_ = os.Remove(path)
	}
	l.tailsDone = nil
}

// databaseEvent records that the log is in another database than the latest writer
// was on. Nil: it is not, or that is not known.
func databaseEvent(before, now databaseID) (*audit.Event, string) {
	differs := func(a, b string) bool { return a != "" && b != "" && a != b }
	var meaning string
	switch {
	case differs(before.system, now.system):
		meaning = "another PostgreSQL cluster: the log was restored from a dump, or copied; its triggers and owners may differ, and what came after the dump is missing"
	case differs(before.database, now.database):
		meaning = "another database of the same cluster: the log was restored from a dump; its triggers and owners may differ, and what came after the dump is missing"
	case differs(before.timeline, now.timeline):
		meaning = "another timeline: a standby was promoted or a backup restored; events that only the former primary had are missing"
	default:
		return nil, ""
	}
	e := &audit.Event{Time: time.Now(), Kind: audit.KindAdmin, Action: "database_changed", Message: meaning, Attributes: []audit.Attribute{
		{Name: "previous_system", Value: before.system}, {Name: "system", Value: now.system},
		{Name: "previous_timeline", Value: before.timeline}, {Name: "timeline", Value: now.timeline},
		{Name: "previous_database", Value: before.database}, {Name: "database", Value: now.database},
	}}
	e.Normalise()
	return e, meaning
}

// compareDatabase records where the database is another than the one that the
// latest writer began on.
func (l *Log) compareDatabase(ctx context.Context, s *session) error {
	var before databaseID
	err := s.conn.QueryRow(ctx, `SELECT coalesce(a ->> 'database_system', ''), coalesce(a ->> 'database_timeline', ''), coalesce(a ->> 'database_oid', '')
		FROM (SELECT convert_from(record, 'UTF8')::json -> 'attributes' AS a FROM audit.events WHERE kind = 'writer_started' ORDER BY time DESC LIMIT 1) q
		UNION ALL SELECT '', '', '' LIMIT 1`).Scan(&before.system, &before.timeline, &before.database)
	if err != nil {
		return fmt.Errorf("read where the latest writer began: %w", err)
	}
	if e, meaning := databaseEvent(before, s.where); e != nil {
		l.log.Warn("the audit log is in another database than the latest process used", "meaning", meaning)
		l.pending = append(l.pending, e)
	}
	return nil
}
