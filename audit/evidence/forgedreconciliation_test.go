package evidence

import (
	"strings"
	"testing"

	"github.com/sallyport/sallyport/audit"
)

// TestForgedReconciliation: a login that may record adds an event of a reconciliation that
// never was. The pack shows the event with its writer, and the log is not damaged by it.
// The same event of a writer that shows a key of the log is a finding.
func TestForgedReconciliation(t *testing.T) {
	for _, signed := range []bool{false, true} {
		m := october(t)
		const writer = "01a22b5ca7d4-forger"
		if signed {
			m.add(writer, &audit.Event{Time: at(20, 0), Kind: audit.KindWriterStarted, Attributes: writerKey(t, m.signer, writer)})
		}
		m.add(writer, &audit.Event{Time: at(20, 1), Kind: audit.KindReconciled, Attributes: []audit.Attribute{
			{Name: "reconciliation", Value: "01a1fdf4-2222-7000-8000-00000000ffff"}, {Name: "digest", Value: "00"}}})
		m.seal(at(26, 1))
		dir, built := mustBuild(t, m, nil)
		if built.Facts.Result.Sound == signed {
			t.Errorf("shows a key: %t, sound: %t: %v", signed, built.Facts.Result.Sound, built.Facts.Result.Findings)
		}
		if c := check(t, dir, nil); !signed && len(c.Findings) > 0 {
			t.Errorf("the check: %v", c.Findings)
		}
		if text := tree(t, dir)["tables/reconciliations.csv"]; !strings.Contains(text, writer) {
			t.Errorf("the event is not in the table:\n%s", text)
		}
	}
}
