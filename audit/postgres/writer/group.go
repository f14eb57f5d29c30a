package writer

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strconv"
	"time"

	"github.com/sallyport/sallyport/audit"
	auditpg "github.com/sallyport/sallyport/audit/postgres"
)

// A group is committed together. Its rows have neighboring numbers of one
// writer and lie in one buffer that is itself the body of a COPY.
type group struct {
	writer string
	rows   []row
	buffer []byte // the header of a COPY, and then the tuples
	urgent bool   // there is something in it beside ends
	// companions is how many rows have a companion, and companionBytes their size.
	companions, companionBytes int
}

// A row is one numbered event.
type row struct {
	start, end int // the tuple in the buffer
	time       time.Time
	sequence   int64
	waiter     *waiter    // nil: no caller waits
	companion  *companion // nil: none
	source     audit.Source
}

// The bounds of a group. The events of one do not lie on a slow disk for long,
// and no event waits for a very long COPY.
const (
	groupRows  = 1000
	groupBytes = 4 << 20
	// groupCompanions bounds what a decision waits for that comes alone: a webhook delivery
	// takes as long as fifty events. groupCompanionsBeside is the bound while decisions are
	// made.
	groupCompanions       = 16
	groupCompanionsBeside = 4
)

func newGroup(writer string) *group {
	return &group{writer: writer, buffer: append(make([]byte, 0, 64<<10), auditpg.CopyHeader...)}
}

// add appends an event that has its number.
func (g *group) add(e *audit.Event, w *waiter) {
	start := len(g.buffer)
	g.buffer = auditpg.AppendTuple(g.buffer, e)
	g.urgent = g.urgent || !e.IsClosing()
	r := row{start: start, end: len(g.buffer), time: e.Time, sequence: e.WriterSequence, waiter: w, source: e.Source}
	if w != nil && w.companion != nil {
		r.companion = w.companion
		g.companions, g.companionBytes = g.companions+1, g.companionBytes+w.companion.size
	}
	g.rows = append(g.rows, r)
}

func (g *group) full() bool {
	return len(g.rows) >= groupRows || len(g.buffer)+g.companionBytes >= groupBytes
}

// reset empties the group and keeps its memory, if that is not a lot.
func (g *group) reset() {
	clear(g.rows)
	g.rows = g.rows[:0]
	g.urgent, g.companions, g.companionBytes = false, 0, 0
	if cap(g.buffer) > 2*groupBytes {
		g.buffer = make([]byte, 0, 64<<10)
	}
	g.buffer = append(g.buffer[:0], auditpg.CopyHeader...)
}

func (g *group) tuple(r row) []byte { return g.buffer[r.start:r.end] }

// record is the record of a row.
func (g *group) record(r row) []byte { return auditpg.RecordOfTuple(g.tuple(r)) }

// only returns a group of some of the rows.
func (g *group) only(rows []row) *group {
	if len(rows) == len(g.rows) {
		return g
	}
	part := newGroup(g.writer)
	part.companions = g.companions // an upper bound
	for _, r := range rows {
		start := len(part.buffer)
		part.buffer = append(part.buffer, g.tuple(r)...)
		part.rows = append(part.rows, row{start: start, end: len(part.buffer), time: r.time, sequence: r.sequence, source: r.source, companion: r.companion})
	}
	return part
}

// months are the first days of the months that the rows belong to.
func (g *group) months() []time.Time {
	var list []time.Time
	for _, r := range g.rows {
		if m := month(r.time); !slices.ContainsFunc(list, m.Equal) {
			list = append(list, m)
		}
	}
	return list
}

func month(t time.Time) time.Time {
	t = t.UTC()
	return time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)
}

// A found row is what the database holds under the number of one of ours.
type found struct {
	time   time.Time
	record []byte
}

// A conflictError means that another event has a number of ours: the log
// was restored from a backup while we wrote, or another writes under our name.
type conflictError struct {
	writer   string
	sequence int64
}

func (e conflictError) Error() string {
	return "event " + strconv.FormatInt(e.sequence, 10) + " of writer " + e.writer +
		" is in the database with other content: either it was changed, or a second writer uses this name; " +
		"nothing is recorded any more: keep the database as it is for the investigation, and restart with `sallyport serve`"
}

// missing compares the group with the stored events, and returns the rows that are not
// stored. A stored event must equal its row to the byte.
func (g *group) missing(stored map[int64][]found) ([]row, error) {
	var rows []row
	for _, r := range g.rows {
		have := stored[r.sequence]
		switch {
		case len(have) == 0:
			rows = append(rows, r)
		case len(have) > 1, !have[0].time.Equal(r.time), !bytes.Equal(have[0].record, g.record(r)):
			return nil, conflictError{g.writer, r.sequence}
		}
	}
	return rows, nil
}

// timeOf reads the time of a tuple, its first field.
func timeOf(tuple []byte) time.Time {
	return time.UnixMicro(int64(binary.BigEndian.Uint64(tuple[6:])) + auditpg.Epoch).UTC()
}

// sequenceOf reads the number of a tuple, its second field.
func sequenceOf(tuple []byte) int64 { return int64(binary.BigEndian.Uint64(tuple[18:])) }
