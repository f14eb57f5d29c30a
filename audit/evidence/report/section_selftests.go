package report

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
	"github.com/sallyport/sallyport/audit/recorded"
)

var selfTestsSpec = sectionSpec{
	name: "self-tests", title: "Self-tests", criteria: []string{"CC4.1"},
	kinds: []audit.Kind{audit.KindSelfTest},
	begin: func() section { return &selfTestsSection{decisions: map[string]*recorded.Event{}} },
	text: `<p>Each instance of the server tests itself, by default once a day. It sends two probes through a listener like a step: policy must refuse one and allow the other, and the log must have both decisions. Probes have the origin <code>self_test</code> in the population.</p>
{{if not .Runs}}<p class="result damaged">No self-test of the period is recorded.</p>
{{else}}<p>{{n .Runs "run in" "runs in"}} the period: <b>{{.Failed}} failed</b>, {{.Inconclusive}} could not run (an emergency stop, limits, the log unavailable), {{.Passed}} passed{{if .Reported}}, <b>{{.Reported}} of them in report mode only</b>: policy would have refused the probe, but did not enforce it{{end}}. On {{n .Days "day of" "days of"}} the period none passed.</p>
{{end}}{{if .Differ}}<p class="result damaged">{{n .Differ "run is" "runs are"}} recorded as passed, and the decisions in the population contradict that.</p>{{end}}
<p>A passed run shows that the proxy refused, allowed and recorded at that moment. It does not test the refusal of private addresses, name lookups, or the verification of Bitbucket's tokens. A failed run was logged as an error; this log does not record the follow-up.</p>`,
}

type selfTestsSection struct {
	Runs, Passed, Reported, Failed, Inconclusive int
	Differ, Days                                 int
	decisions                                    map[string]*recorded.Event // of probes, by id
	runs                                         []*recorded.Event
}

func (c *selfTestsSection) decision(d *Decision) {
	if d.IsProbe() && len(c.decisions) < 4*pack.MaxRows {
		c.decisions[d.DecisionID] = d.Event
	}
}

func (c *selfTestsSection) event(e *loggedEvent) {
	if e.inPeriod && e.Kind == string(audit.KindSelfTest) {
		c.runs = append(c.runs, e.Event)
	}
}

// isReported reports whether a run passed by what policy would have done.
func isReported(e *recorded.Event) bool {
	return e.Attributes["outcome"] == "passed" && e.Attributes["refused_outcome"] == "would_deny"
}

func (c *selfTestsSection) finish(f *pack.Facts) []pack.Table {
	t := pack.Table{
		Name: "self_tests", Title: "Runs", Note: "Failed ones first. The ids are those of the two decisions in the population.",
		Columns: []string{"outcome", "time", "message", "must_be_refused", "refused_by", "must_be_allowed", "allowed_by", "in_the_population", "writer", "revision", "writer_sequence"},
		Extra:   2,
	}
	days := map[string][3]int{} // runs, failed, passed
	for _, e := range c.runs {
		outcome := e.Attributes["outcome"]
		day := days[e.Time[:min(len(e.Time), len(time.DateOnly))]]
		day[0]++
		switch {
		case isReported(e):
			outcome = "passed, in report mode only"
			c.Reported++
			fallthrough
		case e.Attributes["outcome"] == "passed":
			c.Passed++
			day[2]++
		case e.Attributes["outcome"] == "failed":
			c.Failed++
			day[1]++
		default:
			c.Inconclusive++
		}
		days[e.Time[:min(len(e.Time), len(time.DateOnly))]] = day
		a := e.Attributes
		agree := c.agree(e, f)
		if agree == "OUTCOME NOT AS REQUIRED" && e.Attributes["outcome"] == "passed" {
			c.Differ++
		}
		t.Rows = append(t.Rows, []string{outcome, e.Time, e.Message, a["refused_decision_id"], cmp.Or(a["refused_rule"], a["refused_reason"]),
			a["allowed_decision_id"], cmp.Or(a["allowed_rule"], a["allowed_reason"]), agree, e.Writer, e.Revision, whole(e.WriterSequence)})
	}
	c.Runs = len(c.runs)
	sortRows(&t, 1, 8, 10)
	slices.SortStableFunc(t.Rows, func(a, b []string) int { return cmp.Compare(weight(a[0]), weight(b[0])) })
	return []pack.Table{t, c.daysWithout(f.Period, days)}
}

// weight puts what failed first.
func weight(outcome string) int {
	switch outcome {
	case "failed":
		return 0
	case "passed":
		return 2
	}
	return 1
}

// agree compares the two decisions that a run names with the population, and with the
// required outcomes.
func (c *selfTestsSection) agree(e *recorded.Event, f *pack.Facts) string {
	if len(f.Repositories) > 0 {
		return "not compared: the pack is limited to repositories"
	}
	refused, allowed := c.decisions[e.Attributes["refused_decision_id"]], c.decisions[e.Attributes["allowed_decision_id"]]
	switch {
	case refused == nil && allowed == nil:
		return "neither of the two"
	case refused != nil && refused.Verdict == "allow" && !refused.WouldDeny || allowed != nil && allowed.Verdict != "allow":
		return "OUTCOME NOT AS REQUIRED"
	case refused == nil || allowed == nil:
		return "one of the two"
	}
	return "both"
}

// daysWithout lists the days of a period on which no run passed.
func (c *selfTestsSection) daysWithout(p pack.Period, days map[string][3]int) pack.Table {
	t := pack.Table{Name: "days_without_self_test", Title: "Days without a self-test that passed", Columns: []string{"day", "runs", "failed"},
		Note: "Days in UTC, as far as they are in the period. Without any run the server did not run, or self-tests were disabled."}
	for day := p.From.Truncate(24 * time.Hour); day.Before(p.To); day = day.AddDate(0, 0, 1) {
		n := days[day.Format(time.DateOnly)]
		if n[2] > 0 {
			continue
		}
		c.Days++
		if len(t.Rows) < pack.MaxRows {
			t.Rows = append(t.Rows, []string{day.Format(time.DateOnly), strconv.Itoa(n[0]), strconv.Itoa(n[1])})
		}
	}
	return t
}
