package writer

import (
	"strconv"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// allows is how many decisions of the group let something out.
func (g *group) allows() int {
	n := 0
	for _, r := range g.rows {
		if isAllowTuple(g.tuple(r)) {
			n++
		}
	}
	return n
}

func isAllowTuple(tuple []byte) bool {
	return string(fieldOf(tuple, kindColumn)) == string(audit.KindDecision) && string(fieldOf(tuple, verdictColumn)) == verdictAllow
}

// A replayed journal is summed up in an event.
type replayed struct {
	writer        string
	spool         bool
	events, fresh int // events, and those that were not in the database yet
	allows        int // decisions that let something out on the journal's strength
	from, to      time.Time
}

// add counts a group of which so many events were not there yet. An allow whose
// client was refused after all is closed with a cause of its own.
func (r *replayed) add(g *group, fresh int) {
	for _, row := range g.rows {
		tuple := g.tuple(row)
		if r.events == 0 || row.time.Before(r.from) {
			r.from = row.time
		}
		if row.time.After(r.to) {
			r.to = row.time
		}
		r.events++
		switch {
		case !r.spool:
		case isAllowTuple(tuple):
			r.allows++
		case string(fieldOf(tuple, causeColumn)) == auditUnavailable:
			r.allows--
		}
	}
	r.fresh += fresh
}

// event records from when to when decisions rested on the journal, and how many
// of them were allows.
func (r *replayed) event(more ...audit.Attribute) *audit.Event {
	attributes := []audit.Attribute{
		{Name: "writer", Value: r.writer},
		{Name: "events", Value: strconv.Itoa(r.events)},
		{Name: "new", Value: strconv.Itoa(r.fresh)},
		{Name: "allows", Value: strconv.Itoa(max(r.allows, 0))},
	}
	if r.events > 0 {
		attributes = append(attributes,
			audit.Attribute{Name: "from", Value: r.from.Format(time.RFC3339Nano)}, audit.Attribute{Name: "to", Value: r.to.Format(time.RFC3339Nano)})
	}
	e := &audit.Event{Time: time.Now(), Kind: audit.KindAdmin, Action: "journal_replayed", Attributes: append(attributes, more...)}
	e.Normalise()
	return e
}
