package evidence

import (
	"encoding/csv"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/audit"
)

// TestStartsOfWriters: a pack names the writers of reports and decisions that show no
// key of the log: one whose start is copied from a server's, one that signs with a key
// of its own, and one without a start. Without the signature the reports of a stranger
// look like a server's.
func TestStartsOfWriters(t *testing.T) {
	t.Parallel()
	m := october(t)
	const server, copied, silent = "01a1fdf4-0000-7000-8000-00000000000d", "01a1fdf4-0000-7000-8000-00000000000e", "01a1fdf4-0000-7000-8000-00000000000f"
	own := newKey(t)
	report := func(n int) []*audit.Event {
		return []*audit.Event{
			{Time: at(6, 0), Kind: audit.KindAdmin, Action: "journal_replayed", Attributes: []audit.Attribute{{Name: "events", Value: "9"}}},
			{Time: at(6, 0), Kind: audit.KindAccessAttested, Message: "complete", Attributes: []audit.Attribute{{Name: "digest", Value: "x"}, {Name: "result", Value: "complete"}}},
			{Time: at(6, 0), Kind: audit.KindRefusalsRepeated, DecisionID: id(700), Attributes: []audit.Attribute{{Name: "count", Value: "5"}, {Name: "from", Value: "2026-10-06T00:00:00Z"}}},
			{Time: at(6, 0), Kind: audit.KindUnrecordedTotals, Attributes: []audit.Attribute{{Name: "from", Value: "2026-10-06T00:00:00Z"}, {Name: "credential_missing", Value: "3"}}},
			explained(audit.KindEventsLost, at(6, 0), "lost by "+server, int64(n), int64(n)),
			decisionEvent(700+n, at(6, 1), "deny", "no_rule_matched", "x.example"),
		}
	}
	started := func(attributes []audit.Attribute) *audit.Event {
		return &audit.Event{Time: at(5, 0), Kind: audit.KindWriterStarted, Attributes: attributes}
	}
	m.add(server, append([]*audit.Event{started(writerKey(t, m.signer, server))}, report(1)...)...)
	m.add(copied, append([]*audit.Event{started(writerKey(t, m.signer, server))}, report(2)...)...)
	m.add(writerC+"x", started(writerKey(t, own, writerC+"x")))
	m.add(silent, report(3)...)
	m.seal(at(24, 23))
	dir := build(t, m, nil)
	files := tree(t, dir)
	for table, columns := range map[string][2]string{
		"writers": {"writer", "writer_start"}, "journals": {"reported_by", "reported_by_start"}, "attestations": {"writer", "writer_start"},
		"unrecorded": {"writer", "writer_start"}, "missing_numbers": {"reported_by", "reported_by_start"},
	} {
		rows, err := csv.NewReader(strings.NewReader(files["tables/"+table+".csv"])).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		writer, start := slices.Index(rows[0], columns[0]), slices.Index(rows[0], columns[1])
		got := map[string]string{}
		for _, row := range rows[1:] {
			got[row[writer]] = row[start]
		}
		for name, want := range map[string]string{server: "signed", copied: "not signed", silent: "none"} {
			if got[name] != want {
				t.Errorf("%s: the start of %s is %q, want %q", table, name, got[name], want)
			}
		}
		if table == "writers" && got[writerC+"x"] != "not signed" {
			t.Errorf("a start that another key signed is %q", got[writerC+"x"])
		}
	}
	if !strings.Contains(files["tables/repeated_refusals.csv"], `"15","10"`) {
		t.Errorf("repeats of writers without a signed start:\n%s", files["tables/repeated_refusals.csv"])
	}
	if !strings.Contains(files["report.html"], "have no signed start</b>, and recorded") {
		t.Error("the report does not count them")
	}
	if c := check(t, dir, nil); len(c.Findings) > 0 {
		t.Error(c.Findings)
	}
}
