package report

import (
	"strconv"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
)

var missingSpec = sectionSpec{
	name: "missing", title: "Missing events", criteria: []string{"PI1.4", "PI1.5", "CC7.2"},
	kinds: []audit.Kind{audit.KindEventsLost, audit.KindGapDeclared},
	begin: func() section { return new(missingSection) },
	text: `<p>Each writer numbers its events from 1, in the order of writing. A number without an event belongs to an event that was lost, removed, or never written. The numbers of every writer that was active in the period were checked, sealed or not. An event that retention removed is not missing: its leaf has the number.</p>
{{if not .Gaps}}<p class="result sound">No number is missing that could belong to the period.</p>
{{else}}<p class="result damaged">{{numbers .Missing}} numbers are missing in {{len .Gaps}} places: {{numbers .Declared}} are declared, {{numbers .Reported}} are reported as lost by their writer or its successor, <b>{{numbers .Unexplained}} are not explained</b>.</p>
{{if .More}}<p class="result damaged">{{n .More "more range" "more ranges"}} of missing numbers are not listed and not counted here, because there are too many. Each writer has its first ones in the table.</p>{{end}}
<p>Each missing event happened between the two times beside it: those of the events before and after, by the writer's clock. A declaration (<code>gap_declared</code>) needs the log's key and its owner's login, and has the reason. An event <code>events_lost</code> is a report after a failover or a restore of the database. It explains a gap if its writer is the one whose numbers are missing, or one whose first event (<code>writer_started</code>) names that one as <code>previous_writer</code>; the report of any other writer is a claim, shown with its writer, and leaves the gap unexplained. Neither restores an event: the population does not have them.</p>{{end}}
{{if .Unsealed}}<p class="result damaged">{{n .Unsealed "event of" "events of"}} the period are in the database and not in this pack: they have no leaf, usually because an earlier number of their writer is missing. Sealing continues after a gap once it is declared (<code>sallyport audit gap declare</code>); a later pack has these events.</p>{{end}}
<p>Events that a writer lost after its last number leave no gap. Writers without an end are in <a href="#gaps">Writers and outages</a>.</p>`,
}

// missingSection reports missing numbers. All of it is computed from the facts.
type missingSection struct {
	nothing
	startsUser
	Gaps                                     []pack.Gap
	Missing, Declared, Reported, Unexplained int64
	Unsealed, More                           int64
}

func (c *missingSection) count(f *pack.Facts) {
	c.Gaps, c.Unsealed, c.More = f.Gaps, f.Unsealed, f.MoreGaps
	for i := range f.Gaps {
		n := f.Gaps[i].Numbers()
		c.Missing = pack.AddSaturated(c.Missing, n)
		switch f.Gaps[i].Explained {
		case string(audit.KindGapDeclared):
			c.Declared = pack.AddSaturated(c.Declared, n)
		case string(audit.KindEventsLost):
			c.Reported = pack.AddSaturated(c.Reported, n)
		default:
			c.Unexplained = pack.AddSaturated(c.Unexplained, n)
		}
	}
}

func (c *missingSection) finish(f *pack.Facts) []pack.Table {
	c.count(f)
	t := pack.Table{
		Name: "missing_numbers", Title: "Missing numbers", Note: "Ranges of missing numbers that may belong to the period, by the times of the events before and after each range.",
		Columns: []string{"between", "and", "numbers", "explained_by", "reason", "writer", "first_number", "last_number", "both_neighbors_sealed", "explained_by_leaf", "reported_by", "reported_by_start"},
		Extra:   2,
	}
	for i := range f.Gaps {
		g := &f.Gaps[i]
		explained, leaf, start := g.Explained, "", ""
		if g.Reporter != "" {
			start = c.starts.of(g.Reporter, f)
		}
		if explained == "" {
			explained = "NOT EXPLAINED"
		} else {
			leaf = whole(g.Leaf)
		}
		t.Rows = append(t.Rows, []string{g.After, g.Before, whole(g.Numbers()), explained, g.Reason, g.Writer, whole(g.First), whole(g.Last), strconv.FormatBool(g.Sealed), leaf, g.Reporter, start})
	}
	return []pack.Table{t}
}
