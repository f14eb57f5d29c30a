package evidence

var otherSpec = sectionSpec{
	name: "other", title: "Other records", criteria: []string{"CC7.2"},
	begin: func() section { return &otherSection{} },
	text:  `<p>Events of kinds that no section above covers. Each is in <code>events.jsonl</code>.</p>`,
}

type otherSection struct {
	nothing
	told   map[string]bool // kinds that other sections speak of
	counts groups[int64]
}

func (c *otherSection) event(e *loggedEvent) {
	if e.inPeriod && !c.told[e.Kind] {
		count(&c.counts, e.Kind, e.who(), e.Message)
	}
}

func (c *otherSection) finish(*Facts) []Table {
	return []Table{counted("other", "Other events", &c.counts, "kind", "repository", "message")}
}
