package rego

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/tester"
)

// testUnit runs the tests of one unit and counts its deciding files' lines.
func (l *loader) testUnit(ctx context.Context, u *unit, report *TestReport) (covered, lines int, err error) {
	for _, p := range u.parts() {
		c, n, err := l.testPart(ctx, p, report)
		if err != nil {
			return 0, 0, err
		}
		covered, lines = covered+c, lines+n
	}
	return covered, lines, nil
}

func (l *loader) testPart(ctx context.Context, u *part, report *TestReport) (covered, lines int, err error) {
	modules := map[string]*ast.Module{}
	deciding := map[string]bool{}
	tests := false
	for _, s := range u.files {
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

func (l *loader) runTests(ctx context.Context, u *part, modules map[string]*ast.Module, coverage *cover.Cover, report *TestReport) error {
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
			SetCompiler(l.compiler(u.domain, false).WithEnablePrintStatements(true)).
			SetStore(l.store).
			SetModules(all).
			SetTimeout(testTimeout).
			SetCoverageQueryTracer(newMarkTracer(u.unit, coverage)).
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

// outOfTime is the result of the tests that were not run, with the location of the slowest
// one that was.
func outOfTime(results []TestResult, modules map[string]*ast.Module, limit time.Duration) TestResult {
	t := TestResult{Name: "that comes next", Line: 1}
	for _, path := range slices.Sorted(maps.Keys(modules)) {
		if isTestFile(path) {
			t.File = path
		}
	}
	for _, r := range results {
		if r.Duration > t.Duration {
			t = r
		}
	}
	t.Passed, t.Retry, t.Message = false, true, fmt.Sprintf("the tests of the organization, and those of each repository, have %v together, and not all were run: this is the slowest", limit)
	return t
}
