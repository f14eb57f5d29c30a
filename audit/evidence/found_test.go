package evidence

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
)

const (
	runUUID     = "deadbeef-0000-4000-8000-000000000001"
	otherRun    = "deadbeef-0000-4000-8000-000000000002"
	neverLooked = "55552222-3333-4444-5555-666677778888"
)

// jsonb is an array as PostgreSQL writes one.
func jsonb(cells ...any) string {
	var parts []string
	for _, c := range cells {
		if t, ok := c.(time.Time); ok {
			c = t.Format("2006-01-02T15:04:05-07:00")
		}
		b, err := json.Marshal(c)
		if err != nil {
			panic(err)
		}
		parts = append(parts, string(b))
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

func runRow(uuid, class string, found time.Time) string {
	return jsonb("finding", uuid, repositoryUUID, workspaceUUID, "aaaabbbb-cccc-4ddd-8eee-ffff00001111", "01a1fdf4-1111-4000-8000-000000000001", nil,
		4711, found, at(22, 8), at(22, 9), at(22, 10), "successful", class, "")
}

func missingRun(class string, found time.Time) string { return runRow(runUUID, class, found) }
func seenRun(found time.Time) string                  { return runRow(otherRun, "observed", found) }

// reconcile records a reconciliation in which payments was checked up to a time.
func (m *memory) reconcile(writer string, when, until time.Time, runs ...string) {
	id := fmt.Sprintf("01a1fdf4-2222-7000-8000-%012d", len(m.found))
	rows := append([]string{
		jsonb("scan", workspaceUUID, repositoryUUID, when, until, 2, len(runs), true, true, "acme/payments", "complete", ""),
		jsonb("scan", workspaceUUID, neverLooked, when, nil, 0, 0, false, false, "acme/"+hostile, "not_scanned", "there was no time"),
	}, runs...)
	slices.Sort(rows)
	m.found[id] = rows
	sum := sha256.Sum256([]byte(strings.Join(rows, "\n")))
	m.add(writer, &audit.Event{Time: when, Kind: audit.KindReconciled, WorkspaceUUID: workspaceUUID, Workspace: "acme", Message: "told", Attributes: []audit.Attribute{
		{Name: "reconciliation", Value: id}, {Name: "digest", Value: hex.EncodeToString(sum[:])}, {Name: "outcome", Value: "whole"},
		{Name: "since", Value: at(1, 0).Format(time.RFC3339)}, {Name: "until", Value: when.UTC().Format(time.RFC3339)},
	}})
}

// probe is a decision about a probe of the self-test.
func probe(n int, when time.Time, verdict, reason, host string) *audit.Event {
	e := decisionEvent(n, when, verdict, reason, host)
	e.CredentialKind, e.Repository, e.Deployment, e.DeploymentUUID, e.DeploymentType = "self_test", "sallyport-self-test.invalid/probe", "", "", ""
	e.WorkspaceUUID, e.RepositoryUUID = "00000000-0000-0000-0000-000000000000", "00000000-0000-0000-0000-000000000000"
	return e
}

// selfTest records a run of the self-test: one that passed, one that passed in report
// mode only, one that failed.
func (m *memory) selfTest(writer string, n int, when time.Time) {
	c := []struct{ outcome, refused, reason, message string }{
		{"passed", "passed", "no_rule_matched", ""},
		{"passed", "would_deny", "name_unresolved", "the probe that must be refused: policy would refuse it, and is in report mode: it refuses nothing yet"},
		{"failed", "failed", "name_unresolved", "the probe that must be refused: policy lets it out: only its name did not exist"},
	}[n]
	refused, allowed := 110+2*n, 111+2*n
	m.add(writer, probe(refused, when, "deny", c.reason, "x.refused.sallyport-self-test.invalid"),
		probe(allowed, when, "allow", "policy_allowed", "echo.sallyport-self-test.invalid"), endEvent(allowed, when, 32, 32),
		&audit.Event{Time: when.Add(time.Second), Kind: audit.KindSelfTest, Message: c.message, Attributes: []audit.Attribute{
			{Name: "outcome", Value: c.outcome},
			{Name: "refused_outcome", Value: c.refused}, {Name: "refused_decision_id", Value: id(refused)}, {Name: "refused_reason", Value: c.reason},
			{Name: "allowed_outcome", Value: "passed"}, {Name: "allowed_decision_id", Value: id(allowed)}, {Name: "allowed_rule", Value: "sallyport-self-test"},
		}})
}

// TestReconciliation: findings from before the checkpoint are reported, and later ones are
// not; a repository that was never scanned is named.
func TestReconciliation(t *testing.T) {
	files := tree(t, build(t, october(t), nil))
	for name, want := range map[string]string{
		"tables/deployments.csv":             `"unobserved","1"`,
		"tables/deployments_missing.csv":     `"unobserved","2026-10-22T09:00:00Z","acme/payments","production-eu","4711","successful","2026-10-22T10:00:00Z","2026-10-24T02:00:00.000000Z"`,
		"tables/reconciled_repositories.csv": `"acme/payments","yes","2026-10-01T00:00:00Z","2026-10-25T00:00:00Z","yes"`,
		"tables/reconciliations.csv":         `"2026-10-25T00:00:00.000000Z","acme","whole"`,
		"report.html":                        "2 reconciliations since the beginning of the period are recorded. Of the deployments that began in the period 2 were found: 1 did not use the proxy, 0 could not be classified, and 0 were pending at",
	} {
		if !strings.Contains(files[name], want) {
			t.Errorf("%s does not say %s:\n%s", name, want, files[name])
		}
	}
	if never := files["tables/reconciled_repositories.csv"]; strings.Count(never, `"NEVER"`) != 1 || strings.Count(never, "Bitbucket did not list it") != 1 {
		t.Error(never)
	}
	if n := strings.Count(files[pack.ReconciliationsFile], "\n"); n != 7 {
		t.Errorf("%d rows", n)
	}

	m := newMemory(t)
	m.add("w", audit.Register(m.signer, at(1, 0)), decisionEvent(1, at(3, 0), "deny", "no_rule_matched", "x.example"))
	m.seal(at(25, 0))
	dir := build(t, m, nil)
	report := tree(t, dir)[pack.ReportFile]
	if !strings.Contains(report, "no reconciliation is recorded") || !strings.Contains(report, "No self-test of the period is recorded") {
		t.Error("a log without any does not say so")
	}
	if c := check(t, dir, nil); len(c.Findings) > 0 {
		t.Error(c.Findings)
	}
}

// TestTamperedFindings: rows that are not what was sealed make the log a damaged one,
// and none of them is reported; what the events have by themselves stays.
func TestTamperedFindings(t *testing.T) {
	for name, tamper := range map[string]func(rows []string) []string{
		"a class": func(rows []string) []string {
			rows[0] = strings.Replace(rows[0], "unobserved", "observed", 1)
			return rows
		},
		"taken away":    func(rows []string) []string { return rows[1:] },
		"put in":        func(rows []string) []string { return append(rows, rows[0]) },
		"another order": func(rows []string) []string { slices.Reverse(rows); return rows },
		"all gone":      func([]string) []string { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			m := october(t)
			for _, w := range []string{"01a1fdf4-0000-7000-8000-00000000000b", writerC} { // their processes have the key
				m.add(w, &audit.Event{Time: at(24, 0), Kind: audit.KindSigningKey, Attributes: writerKey(t, m.signer, w)})
			}
			m.seal(at(27, 0))
			const second = "01a1fdf4-2222-7000-8000-000000000001"
			m.found[second] = tamper(slices.Clone(m.found[second]))
			delete(m.found, "01a1fdf4-2222-7000-8000-000000000000")
			delete(m.found, "01a1fdf4-2222-7000-8000-000000000002")
			dir, built := mustBuild(t, m, nil)
			files := tree(t, dir)
			if built.Facts.Result.Sound || !strings.Contains(files[pack.ReportFile], "findings_changed") || !strings.Contains(files[pack.ReportFile], "The findings of 3 reconciliations do not match") {
				t.Errorf("%+v", built.Facts.Result)
			}
			if missing := files["tables/deployments_missing.csv"]; !strings.Contains(missing, `"unobserved (by its event alone)"`) {
				t.Error(missing)
			}
			if c := check(t, dir, nil); len(c.Findings) > 0 || c.Manifest.Sound {
				t.Errorf("%+v", c)
			}
		})
	}
}

// TestForgedFindings: who holds the key and signs other findings, or tables that do
// not follow from them, is found by the digest in the event.
func TestForgedFindings(t *testing.T) {
	dir := build(t, october(t), nil)
	good := tree(t, dir)
	for name, c := range map[string]struct {
		file string
		edit func(string) string
	}{
		"a class":       {pack.ReconciliationsFile, func(s string) string { return strings.Replace(s, "unobserved", "observed", 1) }},
		"a row too few": {pack.ReconciliationsFile, func(s string) string { _, after, _ := strings.Cut(s, "\n"); return after }},
		"another's row": {pack.ReconciliationsFile, func(s string) string {
			return s + strings.Replace(s[:strings.Index(s, "\n")+1], `{"leaf":1`, `{"leaf":2`, 1)
		}},
		"a spelling":           {pack.ReconciliationsFile, func(s string) string { return strings.Replace(s, `"row":`, `"row": `, 1) }},
		"none":                 {pack.ReconciliationsFile, func(string) string { return "" }},
		"a missing deployment": {"tables/deployments_missing.csv", func(s string) string { return strings.Replace(s, "4711", "4712", 1) }},
		"the classes":          {"tables/deployments.csv", func(s string) string { return strings.Replace(s, `"unobserved","1"`, `"unobserved","0"`, 1) }},
		"a self-test":          {"tables/self_tests.csv", func(s string) string { return strings.Replace(s, `"failed"`, `"passed"`, 1) }},
		"an event of one":      {pack.EventsFile, func(s string) string { return strings.Replace(s, `"outcome":"failed"`, `"outcome":"passed"`, 1) }},
		"a probe is a client": {pack.PopulationFile, inside(t, func(s string) string {
			return strings.Replace(s, `"credential_kind":"self_test"`, `"credential_kind":"oidc"`, 1)
		})},
	} {
		t.Run(name, func(t *testing.T) {
			edited := c.edit(good[c.file])
			if edited == good[c.file] {
				t.Fatal("the edit changes nothing")
			}
			if err := os.WriteFile(filepath.Join(dir, c.file), []byte(edited), 0o600); err != nil {
				t.Fatal(err)
			}
			resign(t, dir, good, c.file, edited)
			if got := check(t, dir, nil); len(got.Findings) == 0 {
				t.Error("it is not found")
			}
			for _, file := range []string{c.file, pack.ManifestName} {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(good[file]), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestSelfTests: failed runs come first, those of report mode are distinguished, and
// days without one that passed are named.
func TestSelfTests(t *testing.T) {
	files := tree(t, build(t, october(t), func(o *Options) { o.Sample = 1000 }))
	rows := strings.Split(files["tables/self_tests.csv"], "\r\n")
	for i, want := range []string{`"outcome"`, `"failed","2026-10-24T`, `"passed, in report mode only","2026-10-23T`, `"passed","2026-10-22T`} {
		if !strings.HasPrefix(rows[i], want) || i > 0 && !strings.Contains(rows[i], `"both"`) {
			t.Errorf("row %d is %s", i, rows[i])
		}
	}
	if days := files["tables/days_without_self_test.csv"]; strings.Count(days, "\n") != 22 || !strings.Contains(days, `"2026-10-24","1","1"`) || strings.Contains(days, `"2026-10-22"`) {
		t.Error(days)
	}
	// The probes are in the population, and nowhere among what pipelines did.
	if n := strings.Count(files[pack.Spreadsheet], `","self_test","`); n < 6 {
		t.Errorf("%d probes are in the population", n)
	}
	for _, name := range []string{"tables/destinations.csv", "tables/denials.csv", "tables/report_mode.csv"} {
		if strings.Contains(files[name], "self-test") {
			t.Errorf("%s:\n%s", name, files[name])
		}
	}
	for name := range files {
		if strings.HasPrefix(name, pack.SamplesFolder) && (strings.Contains(name, id(110)) || strings.Contains(name, id(111))) {
			t.Errorf("the sample has %s", name)
		}
	}
	if !strings.Contains(files["tables/outcomes.csv"], `"self_test","allow"`) {
		t.Error(files["tables/outcomes.csv"])
	}
	if !strings.Contains(files[pack.ReportFile], "6 are <b>probes of the proxy itself</b>") {
		t.Error("the report does not count them")
	}

	m := october(t) // a run recorded as passed, whose decision allowed the probe
	m.add("w", probe(150, at(24, 6), "allow", "policy_allowed", "x.refused.sallyport-self-test.invalid"),
		&audit.Event{Time: at(24, 6), Kind: audit.KindSelfTest, Attributes: []audit.Attribute{{Name: "outcome", Value: "passed"}, {Name: "refused_decision_id", Value: id(150)}}})
	m.seal(at(27, 0))
	if report := tree(t, build(t, m, nil)); !strings.Contains(report["tables/self_tests.csv"], "OUTCOME NOT AS REQUIRED") || !strings.Contains(report[pack.ReportFile], "1 run is recorded as passed") {
		t.Error(report["tables/self_tests.csv"])
	}
}
