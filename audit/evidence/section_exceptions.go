package evidence

import (
	"strconv"
	"time"
)

var exceptionsSection = section{
	name: "exceptions", title: "Exceptions, their owners and their ends", criteria: []string{"CC6.1", "CC6.3", "CC3.4"},
	begin: func() chapter { return new(exceptionsChapter) },
	text:  `<p>What the documents of the policies list as exceptions (an owner, an end, perhaps a ticket), for each revision that decided in the period. An exception whose end is not written as a time in UTC, or that has no owner, never counts.</p>`,
}

type exceptionsChapter struct{ nothing }

func (c *exceptionsChapter) finish(f *Facts) []Table {
	t := Table{Name: "exceptions", Title: "Exceptions", Columns: []string{"owner", "ticket", "repository", "ends", "in_the_period", "place", "revision"}}
	for _, e := range f.Exceptions {
		state := "in force"
		until, err := time.Parse(time.RFC3339, e.Until)
		switch {
		case e.Unreadable != "":
			state = "the policy could not be read: " + e.Unreadable
		case err != nil || e.Owner == "":
			state = "never counts"
		case !until.After(f.Period.From):
			state = "had ended before"
		case until.Before(f.Period.To):
			state = "ended within"
		}
		t.Rows = append(t.Rows, []string{e.Owner, e.Ticket, e.Repository, e.Until, state, e.Path, e.Revision})
	}
	return []Table{t}
}

var otherSection = section{
	name: "other", title: "Everything else on record", criteria: []string{"CC7.2"},
	begin: func() chapter { return &otherChapter{} },
	text:  `<p>Events of the period of kinds that no section above speaks of, each in <code>events.jsonl</code>.</p>`,
}

type otherChapter struct {
	nothing
	told   map[string]bool // kinds that other sections speak of
	counts groups[int64]
}

func (c *otherChapter) event(e *happened) {
	if e.inPeriod && !c.told[e.Kind] {
		count(&c.counts, e.Kind, e.who(), e.Message)
	}
}

func (c *otherChapter) finish(*Facts) []Table {
	return []Table{counted("other", "Other events", &c.counts, "kind", "repository", "message")}
}

func yes(b bool) string { return strconv.FormatBool(b) }
