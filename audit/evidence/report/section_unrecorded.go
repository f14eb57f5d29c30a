package report

import (
	"strconv"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
	"github.com/sallyport/sallyport/audit/recorded"
)

var unrecordedSpec = sectionSpec{
	name: "unrecorded", title: "Refused attempts that are counted only", criteria: []string{"CC6.6", "CC7.2"},
	kinds: []audit.Kind{audit.KindUnrecordedTotals, audit.KindRefusalsRepeated},
	begin: func() section {
		return &unrecordedSection{totals: map[[2]string]*recorded.Event{}, repeats: map[[3]string]*recorded.Event{}}
	},
	text: `<p>Attempts without a credential, unreadable request heads and attempts over a rate or a limit are not recorded one by one, because anyone could fill the log with them. Each process records their number every ten minutes and at its end. The population does not include them.</p>
{{if not .Intervals}}<p class="result damaged">The period has no totals: the number of attempts that were refused without an event is unknown.</p>
{{else}}<p>{{n .Total "attempt in" "attempts in"}} {{n .Intervals "interval that" "intervals that"}} ended in the period. An interval without any is recorded once an hour, as 0. A process that was killed lost the counts of ten minutes at most.{{if .Facts.Repositories}} They are of all repositories: their repository is not known.{{end}}</p>{{end}}
<p>A refusal that a step repeats for the same target and reason is recorded a few times a minute; the others get the decision id of the first one and are counted each minute. {{if .Repeats}}{{n .Repeats "refusal of the period was" "refusals of the period were"}} counted so, in {{n .Repeated "row" "rows"}} of the table.{{else}}None of the period was.{{end}} A process that was killed lost the counts of one minute at most.</p>`,
}

type unrecordedSection struct {
	nothing
	startsUser
	Facts             *pack.Facts
	Intervals, Total  int64
	Repeats, Repeated int64
	repeats           map[[3]string]*recorded.Event // by writer, decision and beginning, in the same way
	totals            map[[2]string]*recorded.Event // by writer and beginning: of several the last includes the others
}

func (c *unrecordedSection) event(e *loggedEvent) {
	if e.inPeriod && e.Kind == string(audit.KindUnrecordedTotals) {
		c.totals[[2]string{e.Writer, e.Attributes["from"]}] = e.Event
	}
	if e.inPeriod && e.Kind == string(audit.KindRefusalsRepeated) {
		c.repeats[[3]string{e.Writer, e.DecisionID, e.Attributes["from"]}] = e.Event
	}
}

func (c *unrecordedSection) finish(f *pack.Facts) []pack.Table {
	c.Facts = f
	type sum struct{ attempts, intervals int64 }
	sums := map[[2]string]*sum{}
	for _, e := range c.totals {
		c.Intervals++
		for name, value := range e.Attributes {
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil || n < 0 || name == "from" || name == "to" || name == "total" {
				continue
			}
			at := [2]string{e.Writer, name}
			if sums[at] == nil {
				sums[at] = new(sum)
			}
			sums[at].attempts += n
			sums[at].intervals++
			c.Total += n
		}
	}
	t := pack.Table{Name: "unrecorded", Title: "By process and reason", Columns: []string{"writer", "reason", "attempts", "intervals", "writer_start"},
		Note: "event_rejected: events that the log did not accept because its queue was full; the requests were refused."}
	for at, s := range sums {
		t.Rows = append(t.Rows, []string{at[0], at[1], whole(s.attempts), whole(s.intervals), c.starts.of(at[0], f)})
	}
	sortRows(&t, 0, 1)
	return []pack.Table{t, c.repeatedTable()}
}

// repeatedTable counts the repeats of each refusal.
func (c *unrecordedSection) repeatedTable() pack.Table {
	t := pack.Table{Name: "repeated_refusals", Title: "Refusals that were repeated", Columns: []string{"decision_id", "repository", "deployment", "host", "port", "reason", "rule", "repeats", "repeats_without_signed_start"},
		Note: "decision_id: that of the first refusal, which is a row of the population. The last column counts the repeats that writers without a signed start reported."}
	counts, unsigned := map[string]int64{}, map[string]int64{}
	first := map[string]*recorded.Event{}
	for _, e := range c.repeats {
		n, err := strconv.ParseInt(e.Attributes["count"], 10, 64)
		if err != nil || n < 0 || len(c.Facts.Repositories) > 0 && !pack.IsSelected(c.Facts.Repositories, e) {
			continue
		}
		counts[e.DecisionID] += n
		if c.starts.of(e.Writer, c.Facts) != startSigned {
			unsigned[e.DecisionID] += n
		}
		if have := first[e.DecisionID]; have == nil || e.Writer < have.Writer || e.Writer == have.Writer && e.WriterSequence < have.WriterSequence {
			first[e.DecisionID] = e
		}
		c.Repeats += n
	}
	for id, e := range first {
		t.Rows = append(t.Rows, []string{id, e.Repository, e.Deployment, e.Host, whole(int64(e.Port)), e.Reason, e.Rule, whole(counts[id]), whole(unsigned[id])})
	}
	c.Repeated = int64(len(t.Rows))
	sortRows(&t, 0)
	return t
}
