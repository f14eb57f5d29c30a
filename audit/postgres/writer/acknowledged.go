package writer

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/sallyport/sallyport/audit"
	auditpg "github.com/sallyport/sallyport/audit/postgres"
)

// acknowledged is what the database has reported as durable of one writer. After
// a failover to an asynchronous standby, or a restored backup, part of that may
// be missing.
type acknowledged struct {
	last   int64       // the highest number
	recent []keptEvent // the latest events, to compare
	// where is the database that acknowledged them.
	where databaseID
}

// keptEvent is an event as it was written. Its record is made from the tuple only for a
// comparison, because every group keeps events, and comparisons are rare.
type keptEvent struct {
	sequence int64
	time     time.Time
	tuple    []byte
}

// keptEvents is how many of the latest events are compared after a reconnect.
const keptEvents = 3

// keep notes that a group is durable. It copies a few kilobytes at most.
func (a *acknowledged) keep(g *group) {
	if len(g.rows) == 0 {
		return
	}
	a.last = max(a.last, g.rows[len(g.rows)-1].sequence)
	latest := g.rows[max(0, len(g.rows)-keptEvents):]
	for _, r := range latest {
		var buffer []byte
		if len(a.recent) < keptEvents {
			a.recent = append(a.recent, keptEvent{})
		} else {
			buffer = a.recent[0].tuple
			copy(a.recent, a.recent[1:])
		}
		a.recent[len(a.recent)-1] = keptEvent{r.sequence, r.time, append(buffer[:0], g.tuple(r)...)}
	}
}

// through notes that all up to a number is durable, of which nothing was kept.
func (a *acknowledged) through(sequence int64) {
	a.last, a.recent = max(a.last, sequence), a.recent[:0]
}

// loss is what a database does not have of what was acknowledged.
type loss struct {
	writer      string
	first, last int64      // the missing numbers
	found       int64      // the highest number that the database has of this writer
	before, now databaseID // the database that acknowledged them, and the one that misses them
}

// missing compares a database with what a writer had acknowledged. Nil: it has
// all of it. A [conflictError] means that it has something else.
func (s *session) missing(ctx context.Context, writer string, a *acknowledged) (*loss, error) {
	if a.last == 0 {
		return nil, nil
	}
	// An event that retention took has a leaf.
	l := loss{writer: writer, last: a.last, before: a.where, now: s.where}
	if err := s.conn.QueryRow(ctx, `SELECT greatest(0, (SELECT max(writer_sequence) FROM audit.events WHERE writer = $1),
		(SELECT max(writer_sequence) FROM audit.leaves WHERE writer = $1))`, writer).Scan(&l.found); err != nil {
		return nil, fmt.Errorf("look for the latest acknowledged event: %w", err)
	}
	if l.found < a.last {
		l.first = l.found + 1
		return &l, nil
	}
	if len(a.recent) == 0 {
		return nil, nil
	}
	stored := make(map[int64]found)
	if err := auditpg.ReadRecords(ctx, s.conn, writer, a.recent[0].sequence, a.last, func(sequence int64, at time.Time, record []byte) {
		stored[sequence] = found{at, record}
	}); err != nil {
		return nil, fmt.Errorf("read the latest acknowledged events: %w", err)
	}
	for _, k := range a.recent {
		switch have, ok := stored[k.sequence]; {
		case !ok && l.first == 0:
			l.first, l.last = k.sequence, k.sequence
		case !ok:
			l.last = k.sequence
		case !have.time.Equal(k.time) || !bytes.Equal(have.record, auditpg.RecordOfTuple(k.tuple)):
			return nil, conflictError{writer, k.sequence}
		}
	}
	if l.first > 0 {
		return &l, nil
	}
	return nil, nil
}

// event reports which acknowledged events are missing.
func (x loss) event(now time.Time) *audit.Event {
	e := &audit.Event{Time: now, Kind: audit.KindEventsLost, Attributes: []audit.Attribute{
		{Name: "writer", Value: x.writer},
		{Name: "first", Value: strconv.FormatInt(x.first, 10)},
		{Name: "last", Value: strconv.FormatInt(x.last, 10)},
		{Name: "reason", Value: "the database had acknowledged them and does not have them: it is another one, or was restored"},
		{Name: "last_in_database", Value: strconv.FormatInt(x.found, 10)},
		{Name: "discovered_at", Value: now.UTC().Format(time.RFC3339Nano)},
		{Name: "acknowledged_by_system", Value: x.before.system},
		{Name: "acknowledged_by_timeline", Value: x.before.timeline},
		{Name: "acknowledged_by_database", Value: x.before.database},
		{Name: "found_on_system", Value: x.now.system},
		{Name: "found_on_timeline", Value: x.now.timeline},
		{Name: "found_on_database", Value: x.now.database},
	}}
	e.Normalise()
	return e
}
