package evidence

import (
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
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
	want := "\"u\",\"credential_missing\",\"7\",\"2\",\"none\"\r\n\"u\",\"head_timeout\",\"1\",\"1\",\"none\"\r\n"
	if got := files["tables/unrecorded.csv"]; !strings.HasSuffix(got, want) || strings.Count(got, "\n") != 3 {
		t.Errorf("the table is\n%s", got)
	}
	if report := files[pack.ReportFile]; !strings.Contains(report, "8 attempts in 4 intervals") {
		t.Error("the report does not have the sum")
	}
	without := tree(t, build(t, october(t), nil))
	if report := without[pack.ReportFile]; !strings.Contains(report, "The period has no totals") {
		t.Error("the report does not say that nothing was counted")
	}
}

// TestRepeatedRefusals: the counts of the period are added up by decision; of two with
// one beginning the later one includes the other, and a narrowed pack has its own.
func TestRepeatedRefusals(t *testing.T) {
	m := october(t)
	repeats := func(day, hour int, id, repository, from, count string) *audit.Event {
		return &audit.Event{Time: at(day, hour), Kind: audit.KindRefusalsRepeated, DecisionID: id, Verdict: "deny", Reason: "no_rule_matched", Host: "x.example", Port: 443,
			Repository: repository, Attributes: []audit.Attribute{{Name: "from", Value: from}, {Name: "count", Value: count}}}
	}
	const one, two = "01a1f0c0-0000-7000-8000-000000000001", "01a1f0c0-0000-7000-8000-000000000002"
	m.add("u", repeats(24, 6, one, "acme/one", "t1", "10"), repeats(24, 7, one, "acme/one", "t1", "15"), repeats(24, 8, one, "acme/one", "t2", "4"),
		repeats(24, 8, two, "acme/two", "t1", "1"), repeats(24, 9, two, "acme/two", "t2", "-3"), repeats(31, 23, two, "acme/two", "t3", "1000"))
	m.add("v", repeats(24, 9, one, "acme/one", "t1", "2"))
	m.seal(at(30, 12))
	first := `"` + one + `","acme/one","","x.example","443","no_rule_matched","","21","21"` + "\r\n"
	second := `"` + two + `","acme/two","","x.example","443","no_rule_matched","","1","1"` + "\r\n"
	files := tree(t, build(t, m, nil))
	if got := files["tables/repeated_refusals.csv"]; !strings.HasSuffix(got, first+second) || strings.Count(got, "\n") != 3 {
		t.Errorf("the table is\n%s", got)
	}
	if report := files[pack.ReportFile]; !strings.Contains(report, "22 refusals of the period were counted so") {
		t.Error("the report does not have the sum")
	}
	narrow := tree(t, build(t, m, func(o *Options) { o.Repositories = []string{"acme/two"} }))
	if got := narrow["tables/repeated_refusals.csv"]; !strings.HasSuffix(got, second) || strings.Count(got, "\n") != 2 {
		t.Errorf("the narrowed table is\n%s", got)
	}
}
