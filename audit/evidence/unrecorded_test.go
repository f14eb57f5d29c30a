package evidence

import (
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// totals is an event of counts over ten minutes.
func totals(end time.Time, reasons ...audit.Attribute) *audit.Event {
	return &audit.Event{Time: end, Kind: audit.KindUnrecordedTotals, Attributes: append([]audit.Attribute{
		{Name: "from", Value: end.Add(-10 * time.Minute).Format(time.RFC3339Nano)}, {Name: "to", Value: end.Format(time.RFC3339Nano)}, {Name: "total", Value: "?"},
	}, reasons...)}
}

// TestUnrecorded: the totals of the period are added up by process and reason; of two
// events with one beginning the later one includes the other.
func TestUnrecorded(t *testing.T) {
	m := october(t)
	missing := func(n string) audit.Attribute { return audit.Attribute{Name: "credential_missing", Value: n} }
	late := totals(at(24, 7), missing("5"))
	late.Attributes[0] = totals(at(24, 6)).Attributes[0]
	m.add("u", totals(at(24, 6), missing("3")), late, totals(at(24, 8), missing("2"), audit.Attribute{Name: "head_timeout", Value: "1"}),
		totals(at(24, 9)), totals(at(31, 23).Add(2*time.Hour), missing("100")), totals(at(24, 10), missing("-7"), audit.Attribute{Name: "<b>", Value: "x"}))
	m.seal(at(30, 12))
	files := tree(t, build(t, m, nil))
	want := "\"u\",\"credential_missing\",\"7\",\"2\"\r\n\"u\",\"head_timeout\",\"1\",\"1\"\r\n"
	if got := files["tables/unrecorded.csv"]; !strings.HasSuffix(got, want) || strings.Count(got, "\n") != 3 {
		t.Errorf("the table is\n%s", got)
	}
	if report := files[reportFile]; !strings.Contains(report, "8 attempts in 4 intervals") {
		t.Error("the report does not have the sum")
	}
	without := tree(t, build(t, october(t), nil))
	if report := without[reportFile]; !strings.Contains(report, "The period has no totals") {
		t.Error("the report does not say that nothing was counted")
	}
}
