package report

import (
	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
	"github.com/sallyport/sallyport/audit/recorded"
)

var exportsSpec = sectionSpec{
	name: "exports", title: "Exports and retention", criteria: []string{"CC6.1", "C1.1", "C1.2"},
	kinds: []audit.Kind{audit.KindExport, audit.KindRetention, audit.KindHoldSet, audit.KindHoldLifted},
	begin: func() section { return new(exportsSection) },
	text:  `<p>Exports by Sallyport's own commands, each with its digest, and what retention removed. A login that may read the log can also read it with other programs; only the database server's own log can show that.</p>`,
}

// isRetention reports whether a kind is about retention.
func isRetention(kind string) bool {
	return kind == string(audit.KindRetention) || kind == string(audit.KindHoldSet) || kind == string(audit.KindHoldLifted)
}

type exportsSection struct {
	nothing
	exports, retention []*recorded.Event
}

func (c *exportsSection) event(e *loggedEvent) {
	switch {
	case !e.inPeriod:
	case e.Kind == "export":
		c.exports = append(c.exports, e.Event)
	case isRetention(e.Kind):
		c.retention = append(c.retention, e.Event)
	}
}

func (c *exportsSection) finish(*pack.Facts) []pack.Table {
	exports := pack.Table{Name: "exports", Title: "Exports", Columns: []string{"time", "what", "login", "tool", "rows", "digest", "about"}}
	for _, e := range c.exports {
		exports.Rows = append(exports.Rows, []string{e.Time, e.Attributes["what"], e.Attributes["login"], e.Attributes["tool"], e.Attributes["rows"],
			e.Attributes["digest"], about(e, "what", "login", "tool", "rows", "digest")})
	}
	retention := pack.Table{Name: "retention", Title: "Retention", Columns: []string{"time", "kind", "login", "about"}}
	for _, e := range c.retention {
		retention.Rows = append(retention.Rows, []string{e.Time, e.Kind, e.Attributes["login"], about(e, "login")})
	}
	return []pack.Table{exports, retention}
}
