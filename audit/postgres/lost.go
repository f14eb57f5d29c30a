package postgres

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/postgres"
)

// A writer that is alive has a session that bears its name, of a login that may
// write: everybody may call a session what he likes. Of those without one, only
// writers that have no end and were not found before are wanted.
const lostSQL = `SELECT w.writer, last.writer_sequence, last.time
	FROM unnest($1::text[]) AS w(writer)
	CROSS JOIN LATERAL (
		SELECT e.writer_sequence, e.time, e.kind FROM audit.events e
		WHERE e.writer = w.writer COLLATE "C" ORDER BY e.writer_sequence DESC LIMIT 1
	) last
	WHERE last.kind NOT IN ('writer_ended')
	  AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.datname = current_database() AND a.application_name = 'sallyport audit ' || w.writer
		AND pg_has_role(a.usesysid, '` + postgres.Writer + `', 'MEMBER'))
	  AND NOT EXISTS (SELECT FROM audit.events e WHERE e.kind = 'writer_lost'
		AND convert_from(e.record, 'UTF8')::json -> 'attributes' ->> 'writer' = w.writer)`

// findLost records the end that a writer could not record itself. Whoever holds
// the lock does so, and nobody twice. A writer that was only cut off from the
// database for so long goes on with its own numbers; its next event says so.
func (s *Sealer) findLost(ctx context.Context, tx pgx.Tx) error {
	own := s.config.Writer()
	names := slices.DeleteFunc(slices.Collect(maps.Keys(s.writers.sealedTo)), func(name string) bool {
		return name == own || name == audit.DatabaseWriter // which has no session
	})
	if len(names) == 0 {
		return nil
	}
	rows, err := tx.Query(ctx, lostSQL, names)
	if err != nil {
		return fmt.Errorf("look for lost writers: %w", err)
	}
	type lost struct {
		writer   string
		sequence int64
		time     time.Time
	}
	var absent []lost
	var one lost
	if _, err := pgx.ForEachRow(rows, []any{&one.writer, &one.sequence, &one.time}, func() error {
		absent = append(absent, one)
		return nil
	}); err != nil {
		return fmt.Errorf("look for lost writers: %w", err)
	}
	maps.DeleteFunc(s.absent, func(name string, _ time.Time) bool {
		return !slices.ContainsFunc(absent, func(l lost) bool { return l.writer == name })
	})
	for _, l := range absent {
		since, known := s.absent[l.writer]
		if !known {
			s.absent[l.writer] = time.Now()
			continue
		}
		if time.Since(since) < s.config.LostAfter {
			continue
		}
		s.log.Warn("a writer is gone without its end", "writer", l.writer, "last_sequence", l.sequence)
		e := &audit.Event{Time: time.Now(), Kind: audit.KindWriterLost, Attributes: []audit.Attribute{
			{Name: "writer", Value: l.writer},
			{Name: "last_sequence", Value: strconv.FormatInt(l.sequence, 10)},
			{Name: "last_event", Value: l.time.UTC().Format(time.RFC3339Nano)},
		}}
		if err := s.config.Record(ctx, e); err != nil {
			return fmt.Errorf("record that writer %s is lost: %w", l.writer, err)
		}
	}
	return nil
}
