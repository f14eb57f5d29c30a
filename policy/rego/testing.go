package rego

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/tester"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/sallyport/sallyport/policy"
)

// testTimeout bounds one test of a policy, and testsTimeout all of those of the
// organization or of one repository: with a thousand slow ones whoever writes one
// repository's tests would hold up everybody's next revision.
const (
	testTimeout  = 5 * time.Second
	testsTimeout = time.Minute
)

// TestResult is the outcome of one test of a policy.
type TestResult struct {
	File     string
	Line     int
	Package  string // without data.
	Name     string
	Passed   bool
	Message  string // why it did not pass, where more is known than that
	Output   string // what it printed
	Duration time.Duration
	Retry    bool // it did not end in time, or exceeded the memory: it may pass later
}

// TestReport is the outcome of a policy's tests.
type TestReport struct {
	Results  []TestResult
	Coverage float64 // percent of the deciding files' lines that the tests went through
	Files    []FileCoverage
}

// FileCoverage is what the tests left out of a deciding file.
type FileCoverage struct {
	File           string
	Covered, Lines int
	Missed         [][2]int // first and last line
}

// Passed reports whether no test failed; a policy without tests passes.
func (r *TestReport) Passed() bool { return len(r.failures()) == 0 }

func (r *TestReport) failures() Errors {
	var errs Errors
	for _, t := range r.Results {
		if t.Passed {
			continue
		}
		message := "the test " + t.Name + " failed"
		if t.Message != "" {
			message += ": " + t.Message
		}
		errs = append(errs, Error{File: t.File, Line: t.Line, Column: 1, Message: message, Hint: "run sallyport policy test", Retry: t.Retry})
	}
	return errs
}

// Test runs a policy's own tests, the organization's and each repository's apart,
// as the policy is evaluated. The error is of type [Errors] where the policy does
// not load; failed tests are in the report.
func Test(ctx context.Context, snapshot *policy.Snapshot, options Options) (*TestReport, error) {
	options.SkipTests = true
	l := newLoader(snapshot, options)
	if _, err := l.load(ctx); err != nil {
		return nil, err
	}
	return l.test(ctx)
}

// testChanged runs the tests of the units that are not known to pass.
func (l *loader) testChanged(ctx context.Context) (*TestReport, error) {
	var units []*unit
	for _, u := range l.units() {
		if !u.checked && !u.pending && u.failure == nil && slices.ContainsFunc(u.sources, func(s source) bool { return s.test }) {
			units = append(units, u)
		}
	}
	reports, failures := make([]TestReport, len(units)), make([]error, len(units))
	err := l.each(ctx, len(units), func(i int) {
		_, _, failures[i] = l.alone().testApart(ctx, units[i], &reports[i])
	})
	if err != nil {
		return nil, err
	}
	report := &TestReport{}
	for i, u := range units {
		spared := u.isRepository() && l.options.OnFailure != RejectRevision
		switch failed := reports[i].failures(); {
		case failures[i] != nil && spared:
			u.failure = TestsFailed{Errors{asError(fmt.Errorf("testing %s: %w", unitName(u), failures[i]))}}
			continue
		case failures[i] != nil:
			return nil, fmt.Errorf("testing %s: %w", unitName(u), failures[i])
		case len(failed) > 0 && spared:
			u.failure = TestsFailed{failed.sorted()}
			continue
		}
		report.Results = append(report.Results, reports[i].Results...)
	}
	return report, nil
}

func (l *loader) test(ctx context.Context) (*TestReport, error) {
	report := &TestReport{}
	covered, lines := 0, 0
	for _, u := range l.units() {
		c, n, err := l.testApart(ctx, u, report)
		if err != nil {
			return nil, fmt.Errorf("testing %s: %w", unitName(u), err)
		}
		covered, lines = covered+c, lines+n
	}
	slices.SortFunc(report.Files, func(a, b FileCoverage) int { return strings.Compare(a.File, b.File) })
	if lines > 0 {
		report.Coverage = math.Floor(1000*float64(covered)/float64(lines)) / 10
	}
	return report, nil
}

// testUnit runs the tests of one unit and counts its deciding files' lines.
func (l *loader) testUnit(ctx context.Context, u *unit, report *TestReport) (covered, lines int, err error) {
	modules := map[string]*ast.Module{}
	deciding := map[string]bool{}
	tests := false
	for _, s := range u.sources {
		u.mark(s.path)
		m, err := l.parse(s)
		if err != nil {
			return 0, 0, err
		}
		modules[s.path] = m
		deciding[s.path] = !s.test
		tests = tests || s.test
	}
	coverage := cover.New()
	if tests {
		err = recovered("a test", func() error { return l.runTests(ctx, u, modules, coverage, report) })
		if err != nil {
			return 0, 0, err
		}
	}
	for path, file := range coverage.Report(modules).Files {
		if deciding[path] {
			covered += file.CoveredLines
			lines += file.CoveredLines + file.NotCoveredLines
			f := FileCoverage{File: path, Covered: file.CoveredLines, Lines: file.CoveredLines + file.NotCoveredLines}
			for _, missed := range file.NotCovered {
				f.Missed = append(f.Missed, [2]int{missed.Start.Row, missed.End.Row})
			}
			report.Files = append(report.Files, f)
		}
	}
	return covered, lines, nil
}

func (l *loader) runTests(ctx context.Context, u *unit, modules map[string]*ast.Module, coverage *cover.Cover, report *TestReport) error {
	all := make(map[string]*ast.Module, len(modules)+4)
	for path, m := range modules {
		all[path] = m
	}
	for path, m := range l.written.needed(modules) {
		all[path] = m
	}
	whole := ctx
	ctx, cancel := context.WithTimeout(ctx, l.testsTime)
	defer cancel()
	first := len(report.Results)
	return storage.Txn(ctx, l.store, storage.TransactionParams{}, func(txn storage.Transaction) error {
		results, err := tester.NewRunner().
			SetCompiler(l.compiler(false).WithEnablePrintStatements(true)).
			SetStore(l.store).
			SetModules(all).
			SetTimeout(testTimeout).
			SetCoverageQueryTracer(newMarkTracer(u, coverage)).
			RaiseBuiltinErrors(true).
			CapturePrintOutput(true).
			RunTests(ctx, txn)
		if err != nil {
			return err
		}
		for r := range results {
			report.Results = append(report.Results, resultsOf(r, modules)...)
		}
		if whole.Err() == nil && ctx.Err() != nil {
			// Those that were not begun are not among the results.
			report.Results = append(report.Results, outOfTime(report.Results[first:], modules, l.testsTime))
		}
		return whole.Err()
	})
}

// outOfTime is the result of the tests that were not run, told at the slowest of
// those that were.
func outOfTime(results []TestResult, modules map[string]*ast.Module, limit time.Duration) TestResult {
	t := TestResult{Name: "that comes next", Line: 1}
	for _, path := range sortedKeys(modules) {
		if isTestFile(path) {
			t.File = path
		}
	}
	for _, r := range results {
		if r.Duration > t.Duration {
			t = r
		}
	}
	t.Passed, t.Retry, t.Message = false, true, fmt.Sprintf("the tests of the organization, and those of each repository, have %v together, and these are not through: this is the slowest", limit)
	return t
}

func result(r *tester.Result) TestResult {
	t := TestResult{
		Package: strings.TrimPrefix(r.Package, "data."), Name: r.Name, Passed: r.Pass(),
		Output: string(r.Output), Duration: r.Duration,
	}
	if r.Location != nil {
		t.File, t.Line = r.Location.File, r.Location.Row
	}
	switch {
	case r.Error == nil:
	case topdown.IsCancel(r.Error):
		t.Retry = true
		t.Message = fmt.Sprintf("it was ended after %v: a test has %v, so let it go through less", t.Duration.Round(time.Millisecond), testTimeout)
	default:
		t.Message = r.Error.Error()
	}
	return t
}
