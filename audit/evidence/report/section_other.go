package report

import (
	"github.com/sallyport/sallyport/audit/evidence/pack"
)

var otherSpec = sectionSpec{
	name: "other", title: "Other records", criteria: []string{"CC7.2"},
	begin: func() section { return &otherSection{} },
	text:  `<p>Events of kinds that no section above covers. Each is in <code>events.jsonl</code>.</p>`,
}

type otherSection struct {
	nothing
	covered map[string]bool // kinds that other sections report
	counts  groups[int64]
}

func (c *otherSection) event(e *loggedEvent) {
	if e.inPeriod && !c.covered[e.Kind] {
		count(&c.counts, e.Kind, e.Client(), e.Message)
	}
}

func (c *otherSection) finish(*pack.Facts) []pack.Table {
	return []pack.Table{counted("other", "Other events", &c.counts, "kind", "repository", "message")}
}
