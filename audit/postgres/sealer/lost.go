package sealer

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/database"
)

const (
	// maxLostPerStep bounds the events of kind writer_lost of one step: the login that
	// records can make any number of names, and leave all of them without an end.
	maxLostPerStep = 20
	// maxLostRead bounds the events of that kind that are read to record none twice.
	maxLostRead = 10_000
)

// A writer that is alive has a session that bears its name, of a login that may
// write: everybody may call a session what he likes. Of those without one, only
// writers that have no end are wanted.
const lostSQL = `SELECT w.writer, last.writer_sequence, last.time
	FROM unnest($1::text[]) AS w(writer)
	CROSS JOIN LATERAL (
		SELECT e.writer_sequence, e.time, e.kind FROM audit.events e
		WHERE e.writer = w.writer COLLATE "C" ORDER BY e.writer_sequence DESC LIMIT 1
	) last
	WHERE last.kind NOT IN ('writer_ended')
	  AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.datname = current_database() AND a.application_name = 'sallyport audit ' || w.writer
		AND pg_has_role(a.usesysid, '` + database.Writer + `', 'MEMBER'))`

// lostWriter is a writer without a session and without an end.
type lostWriter struct {
	name     string
	sequence int64
	time     time.Time
}

// findLost records the end that a writer could not record itself, for those writers
// that the latest step has surveyed. Only the holder of the lock does so. A writer
// that was only cut off from the database for so long continues with its own
// numbers; its next event shows it, and it may be lost again.
func (s *Sealer) findLost(ctx context.Context, tx pgx.Tx) error {
	var names []string
	for _, name := range s.writers.surveyed {
		if !s.writers.live[name] { // our own, and the database, which has no session
			names = append(names, name)
		} else {
			delete(s.absent, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	due, err := s.absentLong(ctx, tx, names)
	if err != nil || len(due) == 0 {
		return err
	}
	if err := s.readLost(ctx, tx, due); err != nil {
		return err
	}
	recorded := 0
	for _, l := range due {
		if s.lost[l.name] == l.sequence || recorded == maxLostPerStep {
			continue
		}
		s.log.Warn("writer terminated without a writer_ended event", "writer", l.name, "last_sequence", l.sequence)
		e := &audit.Event{Time: time.Now(), Kind: audit.KindWriterLost, Attributes: []audit.Attribute{
			{Name: "writer", Value: l.name},
			{Name: "last_sequence", Value: strconv.FormatInt(l.sequence, 10)},
			{Name: "last_event", Value: l.time.UTC().Format(time.RFC3339Nano)},
		}}
		if err := s.config.Record(ctx, e); err != nil {
			return fmt.Errorf("record that writer %s is lost: %w", l.name, err)
		}
		s.lost[l.name] = l.sequence
		recorded++
	}
	return nil
}

// absentLong returns those of some writers that have been without a session for so
// long that they count as lost, and are not known to be recorded.
func (s *Sealer) absentLong(ctx context.Context, tx pgx.Tx, names []string) ([]lostWriter, error) {
	rows, err := tx.Query(ctx, lostSQL, names)
	if err != nil {
		return nil, fmt.Errorf("look for lost writers: %w", err)
	}
	absent := make(map[string]bool)
	var due []lostWriter
	var one lostWriter
	if _, err := pgx.ForEachRow(rows, []any{&one.name, &one.sequence, &one.time}, func() error {
		absent[one.name] = true
		since, known := s.absent[one.name]
		switch {
		case !known:
			s.absent[one.name] = time.Now()
		case time.Since(since) >= s.config.LostAfter && s.lost[one.name] != one.sequence:
			due = append(due, one)
		}
		return nil
	}); err != nil {
		return nil, fmt.Errorf("look for lost writers: %w", err)
	}
	for _, name := range names {
		if !absent[name] {
			delete(s.absent, name)
		}
	}
	if len(s.absent) > 2*maxUnfinished {
		maps.DeleteFunc(s.absent, func(name string, _ time.Time) bool { return !s.writers.unfinished[name] })
		maps.DeleteFunc(s.lost, func(name string, _ int64) bool { return !s.writers.unfinished[name] })
	}
	return due, nil
}

// readLost reads which of these writers are recorded as lost with their last number.
// Any login that may write can record that of any writer: with another number than the
// last it is not true, and does not count.
func (s *Sealer) readLost(ctx context.Context, tx pgx.Tx, due []lostWriter) error {
	last := make(map[string]int64, len(due))
	oldest := due[0].time
	for _, l := range due {
		last[l.name] = l.sequence
		if l.time.Before(oldest) {
			oldest = l.time
		}
	}
	// Clocks differ by less than a day.
	rows, err := tx.Query(ctx, `SELECT record FROM audit.events WHERE kind = $1 AND time > $2 AND octet_length(record) <= 16384 ORDER BY time DESC LIMIT $3`,
		audit.KindWriterLost, oldest.AddDate(0, 0, -1), maxLostRead)
	if err != nil {
		return fmt.Errorf("look for lost writers: %w", err)
	}
	var record []byte
	_, err = pgx.ForEachRow(rows, []any{&record}, func() error {
		var e struct {
			Attributes struct {
				Writer string `json:"writer"`
				Last   string `json:"last_sequence"`
			} `json:"attributes"`
		}
		if json.Unmarshal(record, &e) != nil {
			return nil
		}
		if n, known := last[e.Attributes.Writer]; known && e.Attributes.Last == strconv.FormatInt(n, 10) {
			s.lost[e.Attributes.Writer] = n
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("look for lost writers: %w", err)
	}
	return nil
}
