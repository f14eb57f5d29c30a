package report

import (
	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
)

var lateSpec = sectionSpec{
	name: "late", title: "Late events", criteria: []string{"PI1.4", "CC7.2"},
	begin: func() section { return new(lateSection) },
	text: `{{with .Facts.Late}}<p>The time of an event is its writer's clock; the signed checkpoint that first covers the event has the time of sealing, usually seconds later. An event that is more than {{.Bound}} minutes late was in a journal during an outage, waited for sealing or behind a gap, comes from a writer whose clock is behind, or was <b>backdated</b>.</p>
{{if not (or .Count .Ahead)}}<p>No event of the period was sealed late.</p>
{{else}}<p>{{n .Count "event" "events"}} of the period {{if eq .Count 1}}was{{else}}were{{end}} sealed late, {{n .Decisions "decision" "decisions"}} among them, by up to {{seconds .Max}}. For {{if .Explained}}{{.Explained}}{{else}}none{{end}} of them, the log has a report that their journal was replayed after an outage. Check that the writer of such a report was a server at that time: a login that may record can add one for events that it backdated itself. It may be sealed after the checkpoint of this pack; a pack of a later checkpoint (<code>--size</code>) has it.</p>
{{if .Arrived}}<p><b>{{.Arrived}} of them arrived after the end of the period</b>: their checkpoint was signed more than {{.Bound}} minutes after it. An earlier pack of the same period does not have these events, and otherwise has the same decisions; ends that were sealed in between are added.</p>
{{else}}<p>None of them arrived after the end of the period.</p>{{end}}
{{if .Ahead}}<p>{{n .Ahead "event is" "events are"}} dated more than 5 minutes after the checkpoint that covers them, by up to {{seconds .MaxAhead}}: their writer's clock is ahead, or they were dated forward.</p>{{end}}{{end}}{{end}}`,
}

type lateSection struct {
	nothing
	Facts *pack.Facts
}

func (c *lateSection) finish(f *pack.Facts) []pack.Table {
	c.Facts = f
	t := pack.Table{
		Name: "late_events", Title: "Late events of the period",
		Note: "Each row is one writer and the checkpoint that first covers these events. The leaves are those of population.csv; leaves between them may belong to events that are not late.",
		Columns: []string{"oldest", "newest", "sealed", "late_by", "after_the_end_of_the_period", "events", "decisions", "journal_replayed", "writer",
			"first_number", "last_number", "first_leaf", "last_leaf", "checkpoint_size"},
		Extra: 5,
	}
	for i := range f.Late.Runs {
		r := &f.Late.Runs[i]
		journal := "no"
		if r.Journal >= 0 {
			journal = "leaf " + whole(r.Journal)
		}
		t.Rows = append(t.Rows, []string{r.Oldest, r.Newest, r.Sealed, audit.FormatDuration(r.Lateness()), yes(r.Arrived), whole(r.Count), whole(r.Decisions), journal, r.Writer,
			whole(r.FirstNumber), whole(r.LastNumber), whole(r.FirstLeaf), whole(r.LastLeaf), whole(r.Size)})
	}
	return []pack.Table{t}
}
