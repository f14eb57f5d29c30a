package report

import (
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
)

var accessSpec = sectionSpec{
	name: "access", title: "Access to the log, and its schema", criteria: []string{"CC6.1", "CC6.2", "CC6.3", "CC7.1"},
	kinds: []audit.Kind{audit.KindSchemaAttested, audit.KindAccessAttested},
	begin: func() section { return new(accessSection) },
	text: `<p>Each server records which roles can do what to the log and by which path, and each object of its schema (functions, triggers, tables, views, owners, privileges) that differs from what the program installs: at its start, once a day, and within minutes of a change. These tables therefore show the access during the period, not today's.</p>
{{if not .Attested}}<p class="result damaged">No attestation of the period is recorded.</p>
{{else}}<p>{{n .Attested "attestation in" "attestations in"}} the period. {{if .Known}}The first table has the access as of {{.Since}}, as the writer {{.By}} (start: {{.ByStart}}) attested it{{if .Later}}, <b>the first attestation in the period: there is none from the two days before it</b>{{end}}.{{end}}</p>
{{end}}{{if .Differing}}<p class="result damaged">{{n .Differing "attestation of" "attestations of"}} the schema name objects that differ from what is installed: see the differences below.</p>
{{else if .Schemas}}<p>Every attestation of the schema in the period found it as installed{{if .Unknown}}, except {{.Unknown}} of a server version whose schema the program does not know{{end}}.</p>{{end}}
<p>An attestation is a report of its writer. A login that may record can add a false one under a name of its own; such a writer has no signed start, and the next attestation of each server lists the difference as a change.</p>
<p>A role that existed for less than five minutes, the interval between two checks, may not appear. Root on the database's machine never appears.</p>`,
}

type accessSection struct {
	nothing
	startsUser
	Attested, Schemas, Differing, Unknown int
	Known, Later                          bool
	Since, By, ByStart                    string

	first  *loggedEvent // the latest before the period, or the first in it
	events []loggedEvent
}

func (c *accessSection) event(e *loggedEvent) {
	if e.Kind != string(audit.KindAccessAttested) && e.Kind != string(audit.KindSchemaAttested) {
		return
	}
	kept := *e
	kept.record = nil
	if e.inPeriod {
		c.events = append(c.events, kept)
	} else if e.Kind == string(audit.KindAccessAttested) && (c.first == nil || c.first.Time < e.Time) {
		c.first = &kept
	}
}

func (c *accessSection) finish(f *pack.Facts) []pack.Table {
	slices.SortStableFunc(c.events, func(a, b loggedEvent) int { return strings.Compare(a.Time, b.Time) })
	began := pack.Table{Name: "access_at_the_beginning", Title: "Access at the beginning of the period", Columns: []string{"access"},
		Note: "A line for each role, capability and path; also settings of roles, extensions, foreign servers, publications and subscriptions."}
	changed := pack.Table{Name: "access_changes", Title: "Changes of access and schema in the period", Columns: []string{"time", "what", "change", "line", "writer_start", "writer", "leaf"}, Extra: 2,
		Note: "Added lines have a plus, removed lines a minus."}
	all := pack.Table{Name: "attestations", Title: "Attestations", Columns: []string{"time", "what", "outcome", "result", "differences", "writer_start", "digest", "writer", "leaf"}, Extra: 3}
	for i := range c.events {
		e := &c.events[i]
		c.Attested++
		what := "access"
		if e.Kind == string(audit.KindSchemaAttested) {
			what = "schema"
			c.Schemas++
			switch e.Attributes["result"] {
			case "differs":
				c.Differing++
			case "unknown":
				c.Unknown++
			}
		} else if c.first == nil {
			c.first, c.Later = e, true
		}
		for _, l := range audit.Lines(e.Attributes, "changes") {
			sign, line, _ := strings.Cut(l, " ")
			changed.Rows = append(changed.Rows, []string{e.Time, what, sign, line, c.starts.of(e.Writer, f), e.Writer, whole(e.leaf)})
		}
		all.Rows = append(all.Rows, []string{e.Time, what, e.Message, e.Attributes["result"], strings.Join(audit.Lines(e.Attributes, "differences"), "\n"),
			c.starts.of(e.Writer, f), e.Attributes["digest"], e.Writer, whole(e.leaf)})
	}
	if c.first != nil {
		c.Known, c.Since, c.By, c.ByStart = true, c.first.Time, c.first.Writer, c.starts.of(c.first.Writer, f)
		for _, l := range audit.Lines(c.first.Attributes, "access") {
			began.Rows = append(began.Rows, []string{l})
		}
		if n := c.first.Attributes["access_left_out"]; n != "" {
			began.Rows = append(began.Rows, []string{"(" + n + " more lines are not in the event)"})
		}
	}
	return []pack.Table{began, changed, all}
}

// AccessLead is how long before a period an attestation may be that shows the access
// at its beginning: every server makes one a day.
const AccessLead = 48 * time.Hour
