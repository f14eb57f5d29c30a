package report

import (
	"bytes"
	"slices"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
)

var keysSpec = sectionSpec{
	name: "keys", title: "Signing keys", criteria: []string{"CC6.1", "CC7.1"},
	kinds: []audit.Kind{audit.KindSigningKey},
	begin: func() section { return new(keysSection) },
	text:  `<p>Every key that the log names, from its beginning. A key hands over to the next by signing its name, and the next key countersigns. A key that replaces a lost one has no signature of its predecessor, and counts only if its public half is known from elsewhere. A key that signed no checkpoint vouches for nothing.</p>`,
}

type keysSection struct {
	nothing
	named []loggedEvent
}

func (c *keysSection) event(e *loggedEvent) {
	if e.Kind == string(audit.KindSigningKey) {
		kept := *e
		kept.record = bytes.Clone(e.record)
		c.named = append(c.named, kept)
	}
}

func (c *keysSection) finish(f *pack.Facts) []pack.Table {
	t := pack.Table{Name: "keys", Title: "Keys", Columns: []string{"time", "key", "named_by", "handed_over", "signed_checkpoints", "leaf"}}
	for _, e := range c.named {
		r, ok := audit.RegistrationOf(e.record)
		if !ok {
			t.Rows = append(t.Rows, []string{e.Time, "(the event names no key, or its holder did not sign it)", "", "", "", whole(e.leaf)})
			continue
		}
		by, handed := "the log itself", ""
		if r.Previous != "" {
			by, handed = string(r.Previous), yes(r.HandedOver(r.Previous))
		}
		t.Rows = append(t.Rows, []string{e.Time, string(r.Key), by, handed, yes(slices.Contains(f.Result.Keys, r.Key)), whole(e.leaf)})
	}
	return []pack.Table{t}
}
