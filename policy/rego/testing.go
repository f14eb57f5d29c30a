package rego

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/policy"
)

// Test runs a policy's own tests, the organization's and each repository's separately, as
// the policy is evaluated. The error is of type [Errors] if the policy does not load;
// failed tests are in the report.
func Test(ctx context.Context, snapshot *policy.Snapshot, options Options) (*TestReport, error) {
	options.SkipTests = true
	l := newLoader(snapshot, options)
	if _, err := l.load(ctx); err != nil {
		return nil, err
	}
	return l.test(ctx)
}

func (l *loader) test(ctx context.Context) (*TestReport, error) {
	report := &TestReport{}
	covered, lines := 0, 0
	for _, u := range l.units() {
		c, n, err := l.testInWorker(ctx, u, report)
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
