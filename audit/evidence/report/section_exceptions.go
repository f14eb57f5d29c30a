package report

import (
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit/evidence/pack"
)

var exceptionsSpec = sectionSpec{
	name: "exceptions", title: "Exceptions: owners, expiry and uses", criteria: []string{"CC6.1", "CC6.3", "CC3.4"},
	begin: func() section { return new(exceptionsSection) },
	text: `<p>The exceptions that the documents of the period's policies list, each with an owner, an expiry and, if given, a ticket. An exception without an owner, or without an expiry as a time in UTC, never applies.</p>
<p><b>Uses</b> are the allowed decisions of the period to which the exception applied: it names the repository and the target, and was in force. The decision names the rules that allowed it. If another rule allows the same request, a use does not mean that the exception was needed. Uses are counted where the policy calls <code>lib.exceptions_for</code>; an exception that a rule reads in another way has no count.</p>
{{if .Unlisted}}<p class="note">{{n .Unlisted "use is" "uses are"}} of exceptions that no document lists; a rule constructed them.</p>{{end}}`,
}

// exceptionPlace is where an exception stands in a revision.
type exceptionPlace struct{ revision, path string }

// exceptionUse is what was let out under one exception.
type exceptionUse struct {
	uses, refused int64
	last          string
}

type exceptionsSection struct {
	nothing
	Unlisted int64
	used     map[exceptionPlace]*exceptionUse
}

func (c *exceptionsSection) decision(d *Decision) {
	if d.IsProbe() || len(d.Exceptions) == 0 {
		return
	}
	if c.used == nil {
		c.used = map[exceptionPlace]*exceptionUse{}
	}
	for _, path := range d.Exceptions {
		at := exceptionPlace{d.Revision, path}
		u := c.used[at]
		if u == nil && len(c.used) >= pack.MaxRows {
			at = exceptionPlace{} // what is over the limit is counted together
			u = c.used[at]
		}
		if u == nil {
			u = new(exceptionUse)
			c.used[at] = u
		}
		if d.Verdict == "allow" {
			u.uses++
			u.last = max(u.last, d.Time)
		} else {
			u.refused++
		}
	}
}

// exceptionRow is one exception, in whichever revisions it stands.
type exceptionRow struct {
	pack.Exception
	revisions int64
	exceptionUse
}

func (c *exceptionsSection) finish(f *pack.Facts) []pack.Table {
	t := pack.Table{Name: "exceptions", Title: "Exceptions", Columns: []string{"owner", "ticket", "repository", "hosts", "expires", "state_in_the_period", "uses", "last_used",
		"refused_despite_exception", "revisions", "place", "revision"}, Extra: 4}
	rows := map[string]*exceptionRow{}
	var order []string
	listed := map[exceptionPlace]bool{}
	for _, e := range f.Exceptions {
		key := strings.Join(append([]string{e.Owner, e.Ticket, e.Repository, e.Until, e.Unreadable}, e.Hosts...), "\x00")
		r := rows[key]
		if r == nil {
			r = &exceptionRow{Exception: e}
			rows[key] = r
			order = append(order, key)
		}
		r.revisions++
		at := exceptionPlace{e.Revision, e.Path}
		if u := c.used[at]; u != nil && !listed[at] {
			r.uses, r.refused, r.last = r.uses+u.uses, r.refused+u.refused, max(r.last, u.last)
		}
		listed[at] = true
	}
	for at, u := range c.used {
		if !listed[at] {
			c.Unlisted += u.uses
		}
	}
	for _, key := range order {
		r := rows[key]
		uses := whole(r.uses)
		if r.Unreadable != "" {
			uses = "not known"
		}
		t.Rows = append(t.Rows, []string{r.Owner, r.Ticket, r.Repository, strings.Join(r.Hosts[:min(len(r.Hosts), maxNames)], ", "), r.Until, stateOf(&r.Exception, f.Period), uses, r.last,
			whole(r.refused), whole(r.revisions), r.Path, r.Revision})
	}
	return []pack.Table{t}
}

// stateOf is the state of an exception in the period.
func stateOf(e *pack.Exception, p pack.Period) string {
	until, err := time.Parse(time.RFC3339, e.Until)
	switch {
	case e.Unreadable != "":
		return "the policy could not be read: " + e.Unreadable
	case err != nil || e.Owner == "":
		return "never applies"
	case !until.After(p.From):
		return "expired before the period"
	case until.Before(p.To):
		return "expired in the period"
	}
	return "in force"
}
