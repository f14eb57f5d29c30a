package sealer

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	auditpg "github.com/sallyport/sallyport/audit/postgres"
)

// The login that records makes any number of writer names. No step reads all of
// them, and none waits for all of them: a step surveys the live writers, and of the
// others as many as Sealer.writersPerStep, in turns. Live are our own writer, the database,
// and each with a session of a login that may write, which the server's limit of
// connections bounds.
const (
	defaultWritersPerStep = 1000
	// maxPassSteps bounds the steps of one pass that find nothing to seal.
	maxPassSteps = 10
	// maxUnfinished bounds the writers that are surveyed between two rounds over all
	// names of the log. Further ones are surveyed once in each round.
	maxUnfinished = 20_000
	// rescan is how often a round over all names of the log begins.
	rescan = 10 * time.Minute
)

// writers are the names whose events may have to be sealed.
type writers struct {
	unfinished map[string]bool
	queue      []string        // unfinished writers whose turn is still to come in this cycle
	finished   map[string]bool // sealed with their end; a name may be missing here
	live       map[string]bool // as of the latest step
	surveyed   []string        // by the latest step

	reading  bool      // a round over all names of the log is under way
	cursor   string    // the last name that the round has read
	scanned  time.Time // when the latest round began
	more     bool      // a writer of this cycle had more events than its share
	rotation int       // where the next batch begins, if there are more writers than leaves in one

	stuck map[string]stuckWriter
}

// stuckWriter is a writer that cannot be sealed any further.
type stuckWriter struct {
	finding string
	blocked int64 // about how many of its events wait
}

func newWriters() writers {
	return writers{unfinished: make(map[string]bool), finished: make(map[string]bool), live: make(map[string]bool), stuck: make(map[string]stuckWriter)}
}

// sealed notes that a batch is in the tree.
func (w *writers) sealed(b batch) {
	for _, l := range b.leaves {
		if l.kind == audit.KindWriterEnded {
			w.finish(l.writer)
		}
	}
}

func (w *writers) finish(name string) {
	if len(w.finished) >= maxUnfinished {
		clear(w.finished) // it only saves reading a writer again
	}
	w.finished[name] = true
	delete(w.unfinished, name)
	delete(w.stuck, name)
}

// admit makes a writer one that is surveyed in turns. It is false where there is no
// room for it.
func (w *writers) admit(name string) bool {
	if w.unfinished[name] {
		return true
	}
	if len(w.unfinished) >= maxUnfinished {
		return false
	}
	w.unfinished[name] = true
	return true
}

// roundSQL walks an index from one writer to the next, instead of reading all of it.
const roundSQL = `WITH RECURSIVE w AS (
			(SELECT e.writer, 1 AS n FROM audit.events e WHERE e.writer > $1 COLLATE "C" ORDER BY e.writer LIMIT 1)
			UNION ALL
			SELECT (SELECT e.writer FROM audit.events e WHERE e.writer > w.writer ORDER BY e.writer LIMIT 1), n + 1 FROM w WHERE w.writer IS NOT NULL AND n < $2
		)
		SELECT w.writer, coalesce(l.sealed, 0) >= e.writer_sequence AND w.writer <> '` + audit.DatabaseWriter + `' AND (e.kind = 'writer_ended' OR e.time < now() - interval '25 hours')
		FROM w
		CROSS JOIN LATERAL (SELECT max(v.writer_sequence) AS sealed FROM audit.leaves v WHERE v.writer = w.writer) l
		CROSS JOIN LATERAL (SELECT v.writer_sequence, v.kind, v.time FROM audit.events v WHERE v.writer = w.writer ORDER BY v.writer_sequence DESC LIMIT 1) e
		WHERE w.writer IS NOT NULL ORDER BY w.writer`

// next returns the writers that this step surveys. rest reports that the cycle over
// the unfinished writers, or the round over all names, is not complete.
func (w *writers) next(ctx context.Context, tx pgx.Tx, own string, most int) (names []string, rest bool, err error) {
	live, err := auditpg.LiveWriters(ctx, tx)
	if err != nil {
		return nil, false, err
	}
	clear(w.live)
	for _, name := range append(live, own, audit.DatabaseWriter) {
		if name != "" {
			w.live[name] = true
		}
	}
	started, err := auditpg.StartedWriters(ctx, tx)
	if err != nil {
		return nil, false, err
	}
	for _, name := range started {
		if !w.finished[name] {
			w.admit(name)
		}
	}
	chosen := maps.Clone(w.live)
	if err := w.round(ctx, tx, chosen, most); err != nil {
		return nil, false, err
	}
	if len(w.queue) == 0 {
		w.queue, w.more = slices.Sorted(maps.Keys(w.unfinished)), false
	}
	n := min(most, len(w.queue))
	for _, name := range w.queue[:n] {
		if w.unfinished[name] {
			chosen[name] = true
		}
	}
	w.queue = w.queue[n:]
	w.surveyed = slices.Sorted(maps.Keys(chosen))
	return w.surveyed, w.reading || len(w.queue) > 0, nil
}

// round reads the next names of the log. Those for which there is no room are
// surveyed in this step and not again before the next round.
func (w *writers) round(ctx context.Context, tx pgx.Tx, chosen map[string]bool, most int) error {
	if !w.reading {
		if time.Since(w.scanned) <= rescan {
			return nil
		}
		w.reading, w.cursor, w.scanned = true, "", time.Now()
	}
	rows, err := tx.Query(ctx, roundSQL, w.cursor, most)
	if err != nil {
		return fmt.Errorf("look for writers: %w", err)
	}
	there := make(map[string]bool)
	last := w.cursor
	var finished bool
	if _, err := pgx.ForEachRow(rows, []any{&last, &finished}, func() error {
		there[last] = true
		switch {
		case finished:
			w.finish(last)
		case !w.admit(last):
			chosen[last] = true
		default:
			delete(w.finished, last)
		}
		return nil
	}); err != nil {
		return fmt.Errorf("look for writers: %w", err)
	}
	w.reading = len(there) >= most
	for name := range w.unfinished { // those that retention has removed
		if name > w.cursor && (name <= last || !w.reading) && !there[name] {
			delete(w.unfinished, name)
			delete(w.stuck, name)
		}
	}
	w.cursor = last
	return nil
}

// note keeps whether a writer is stuck, as of the latest survey of it.
func (w *writers) note(name, finding string, blocked int64) {
	if finding == "" {
		delete(w.stuck, name)
	} else if _, known := w.stuck[name]; known || len(w.stuck) < 2*maxUnfinished {
		w.stuck[name] = stuckWriter{finding, blocked}
	}
}

// stuckOnes lists the writers that cannot be sealed any further, the live ones
// first, and about how many events wait behind what is missing.
func (w *writers) stuckOnes() (findings []string, blocked int64) {
	names := slices.Collect(maps.Keys(w.stuck))
	slices.SortFunc(names, func(a, b string) int {
		if w.live[a] != w.live[b] {
			if w.live[a] {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	for i, name := range names {
		blocked += w.stuck[name].blocked
		if i < maxBlockedFindings {
			findings = append(findings, w.stuck[name].finding)
		}
	}
	if n := len(names) - maxBlockedFindings; n > 0 {
		findings = append(findings, fmt.Sprintf("%d more writers have a missing number", n))
	}
	return findings, blocked
}
