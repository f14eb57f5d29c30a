package postgres

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
)

// writers are those whose events may have to be sealed, each with the number of
// its last sealed event. What is in here is a copy of what the leaves say, as of
// the tree of size.
type writers struct {
	size     int64
	sealedTo map[string]int64
	done     map[string]bool // sealed with their end, or silent for long
	scanned  time.Time
	turn     int // where the next batch begins, if there are more writers than leaves in one
}

// rescan is how often all writers of the log are read. In between, new ones
// show by their first event.
const rescan = 10 * time.Minute

func newWriters() writers {
	return writers{size: -1, sealedTo: make(map[string]int64), done: make(map[string]bool)}
}

// sealed notes that a batch is in the tree, which has this size now.
func (w *writers) sealed(size int64, b batch) {
	w.size = size
	for _, l := range b.leaves {
		w.sealedTo[l.writer] = l.sequence
		if l.kind == audit.KindWriterEnded {
			w.done[l.writer] = true
		}
	}
	maps.DeleteFunc(w.sealedTo, func(name string, _ int64) bool { return w.done[name] })
}

// These walk an index from one writer to the next, instead of reading all of it.
const (
	unfinishedSQL = `WITH RECURSIVE w AS (
			(SELECT writer FROM audit.events ORDER BY writer LIMIT 1)
			UNION ALL
			SELECT (SELECT e.writer FROM audit.events e WHERE e.writer > w.writer ORDER BY e.writer LIMIT 1) FROM w WHERE w.writer IS NOT NULL
		)
		SELECT w.writer, coalesce(l.sealed, 0), coalesce(l.sealed, 0) >= e.writer_sequence AND w.writer <> '` + audit.DatabaseWriter + `' AND (e.kind = 'writer_ended' OR e.time < now() - interval '25 hours')
		FROM w
		CROSS JOIN LATERAL (SELECT max(v.writer_sequence) AS sealed FROM audit.leaves v WHERE v.writer = w.writer) l
		CROSS JOIN LATERAL (SELECT v.writer_sequence, v.kind, v.time FROM audit.events v WHERE v.writer = w.writer ORDER BY v.writer_sequence DESC LIMIT 1) e
		WHERE w.writer IS NOT NULL`
	startedSQL = `SELECT DISTINCT writer FROM audit.events WHERE kind = 'writer_started' AND time > now() - interval '25 hours'`
	sealedSQL  = `SELECT w.writer, coalesce((SELECT max(l.writer_sequence) FROM audit.leaves l WHERE l.writer = w.writer COLLATE "C"), 0)
		FROM unnest($1::text[]) AS w(writer)`
)

// refresh makes the writers those of the tree of size. Our own is one of them,
// whatever its clock says, and the database's, which has no first event to show
// by.
func (w *writers) refresh(ctx context.Context, tx pgx.Tx, size int64, own string) error {
	if time.Since(w.scanned) > rescan {
		if err := w.scan(ctx, tx); err != nil {
			return err
		}
		w.size, w.scanned = size, time.Now()
		return nil
	}
	rows, err := tx.Query(ctx, startedSQL)
	if err != nil {
		return fmt.Errorf("look for writers: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("look for writers: %w", err)
	}
	var ask []string
	for _, name := range append(names, own, audit.DatabaseWriter) {
		if _, known := w.sealedTo[name]; name != "" && !known && !w.done[name] {
			ask = append(ask, name)
		}
	}
	if w.size != size { // another instance has sealed
		ask = append(ask, slices.Collect(maps.Keys(w.sealedTo))...)
	}
	w.size = size
	if len(ask) == 0 {
		return nil
	}
	if rows, err = tx.Query(ctx, sealedSQL, ask); err != nil {
		return fmt.Errorf("look for sealed events: %w", err)
	}
	var name string
	var sequence int64
	_, err = pgx.ForEachRow(rows, []any{&name, &sequence}, func() error {
		w.sealedTo[name] = sequence
		return nil
	})
	return err
}

func (w *writers) scan(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, unfinishedSQL)
	if err != nil {
		return fmt.Errorf("look for writers: %w", err)
	}
	clear(w.sealedTo)
	clear(w.done)
	var name string
	var sealed int64
	var done bool
	_, err = pgx.ForEachRow(rows, []any{&name, &sealed, &done}, func() error {
		if done {
			w.done[name] = true
		} else {
			w.sealedTo[name] = sealed
		}
		return nil
	})
	return err
}
