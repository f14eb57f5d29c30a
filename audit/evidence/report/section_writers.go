package report

import (
	"slices"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
	"github.com/sallyport/sallyport/audit/recorded"
)

var writersSpec = sectionSpec{
	name: "gaps", title: "Writers and outages", criteria: []string{"CC7.2", "A1.2", "PI1.4"},
	kinds: []audit.Kind{audit.KindWriterStarted, audit.KindWriterEnded, audit.KindWriterLost},
	begin: func() section { return new(writersSection) },
	text: `<p>Each process of the server is a writer: it numbers its events from 1 without gaps, begins with <code>writer_started</code> and ends with <code>writer_ended</code>. A writer without an end was killed, its machine failed, or it was still running when the checkpoint was signed; in the first two cases another writer records <code>writer_lost</code>. Events that a lost writer had not written are not in the log. No connection depended on them, except with <code>audit.on_outage: spool</code>; that machine's journal then has them.</p>
<p>What a writer records about another writer, the database or a deployment is its report: that it was recorded is proven, and its content is not. This is so for <code>writer_lost</code>, <code>events_lost</code>, <code>journal_replayed</code>, attestations, reconciliations and totals; the tables name the writer. Only the database adds <code>gap_declared</code>, exports, holds and retention, and a declared gap counts with a signature of the log's key alone.</p>
<p>A server signs the name of its writer with the log's key. A writer whose start is <code>not signed</code>, or that has none, is an instance without that key, or another holder of the login that records: nothing but the writer itself vouches for its events. {{if .Unsigned}}<b>{{n .Unsigned "writer" "writers"}} of the period {{if eq .Unsigned 1}}has{{else}}have{{end}} no signed start</b>, and recorded {{n .UnsignedDecisions "decision" "decisions"}} of the population.{{else}}Every writer of the period has a signed start.{{end}}</p>
<p>{{n .Running "writer was" "writers were"}} active in the period; {{.Lost}} of these were lost, {{.Open}} have no recorded end. Missing numbers are in <a href="#missing">Missing events</a></p>`,
}

type writersSection struct {
	startsUser
	Running, Lost, Open         int
	Unsigned, UnsignedDecisions int64
	decisions                   map[string]int64 // of the population, by writer
	journals                    []*recorded.Event
}

func (c *writersSection) decision(d *Decision) {
	if c.decisions == nil {
		c.decisions = map[string]int64{}
	}
	c.decisions[d.Writer]++
}

func (c *writersSection) event(e *loggedEvent) {
	c.starts.event(e.Event)
	if e.inPeriod && e.Kind == "admin" && e.Action == "journal_replayed" {
		c.journals = append(c.journals, e.Event)
	}
}

func (c *writersSection) finish(f *pack.Facts) []pack.Table {
	t := pack.Table{Name: "writers", Title: "Writers of the period",
		Columns: []string{"writer", "hostname", "version", "started", "last_event", "ended", "reported_lost", "state", "events", "last_number", "numbers_missing", "writer_start", "decisions"}}
	var spans []span
	for _, w := range f.Writers {
		first, last := pack.ParseTime(w.First), pack.ParseTime(w.Last)
		if w.Ended == "" && w.Lost == "" && w.Name != audit.DatabaseWriter {
			last = f.Period.To // it ran on
		}
		if !first.Before(f.Period.To) || last.Before(f.Period.From) {
			continue
		}
		if w.Name == audit.DatabaseWriter { // it has no start and no end, and is not a process of the proxy
			t.Rows = append(t.Rows, []string{w.Name, "", "", "", w.Last, "", "", "the database: exports and retention", whole(w.Events), whole(w.Number), whole(w.Gaps), "", "0"})
			continue
		}
		c.Running++
		spans = append(spans, span{first, last})
		state := "ended"
		switch {
		case w.Ended != "":
		case w.Lost != "":
			state = "LOST: terminated without writer_ended"
			c.Lost++
		default:
			state = "running, or end not recorded"
			c.Open++
		}
		t.Rows = append(t.Rows, []string{w.Name, w.Hostname, w.Version, w.Started, w.Last, w.Ended, w.Lost, state, whole(w.Events), whole(w.Number), whole(w.Gaps), c.starts.of(w.Name, f), whole(c.decisions[w.Name])})
		if c.starts.of(w.Name, f) != startSigned {
			c.Unsigned++
			c.UnsignedDecisions += c.decisions[w.Name]
		}
	}
	none := pack.Table{Name: "without_writer", Title: "Times without any writer", Columns: []string{"from", "to", "duration"},
		Note: "No process wrote to the log: the proxy was not running, or could not reach its database at its start."}
	for _, gap := range between(spans, f.Period) {
		none.Rows = append(none.Rows, []string{gap.from.Format(time.RFC3339), gap.to.Format(time.RFC3339), audit.FormatDuration(gap.to.Sub(gap.from))})
	}
	journals := pack.Table{Name: "journals", Title: "Outages of the database: journals that were replayed into the log",
		Columns: []string{"time", "reported_by", "writer", "from", "to", "events", "allows", "damage", "kept_as", "reported_by_start"},
		Note:    "While the database was unavailable, refusals and ends went to a journal on the server's disk; allows as well only where audit.on_outage is spool."}
	for _, e := range c.journals {
		a := e.Attributes
		journals.Rows = append(journals.Rows, []string{e.Time, e.Writer, a["writer"], a["from"], a["to"], a["events"], a["allows"], a["damage"], a["kept_as"], c.starts.of(e.Writer, f)})
	}
	sortRows(&journals, 0, 1)
	return []pack.Table{t, none, journals}
}

type span struct{ from, to time.Time }

// between is what of a period no span covers. Gaps under a second are not gaps.
func between(spans []span, p pack.Period) []span {
	slices.SortFunc(spans, func(a, b span) int { return a.from.Compare(b.from) })
	var gaps []span
	at := p.From
	for _, s := range append(spans, span{p.To, p.To}) {
		if s.from.After(at.Add(time.Second)) {
			gaps = append(gaps, span{at, s.from})
		}
		if s.to.After(at) {
			at = s.to
		}
	}
	return gaps
}
