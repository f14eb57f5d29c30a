package policycmd

import (
	"cmp"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"github.com/sallyport/sallyport/internal/printable"
	"github.com/sallyport/sallyport/policy/rego"
)

func printTests(out io.Writer, directory string, report *rego.TestReport, verbose bool) error {
	failed := 0
	slices.SortStableFunc(report.Results, func(a, b rego.TestResult) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	for _, t := range report.Results {
		if !t.Passed {
			failed++
		}
		if t.Passed && !verbose {
			continue
		}
		verdict := "PASS"
		if !t.Passed {
			verdict = "FAIL"
		}
		fmt.Fprintf(out, "%s %s:%d: %s (%s)\n", verdict, filepath.Join(directory, t.File), t.Line, t.Name, t.Duration.Round(1000))
		if t.Message != "" {
			fmt.Fprintf(out, "     %s\n", t.Message)
		}
		if t.Output != "" {
			fmt.Fprintf(out, "     printed: %s\n", t.Output)
		}
	}
	fmt.Fprintf(out, "%d passed, %d failed; the tests went through %.0f %% of the policy's lines\n",
		len(report.Results)-failed, failed, report.Coverage)
	if len(report.Results) == 0 {
		fmt.Fprintf(out, "warning: %s: there are no tests: a test is a rule test_… in a file whose name ends in _test.rego\n", directory)
	}
	if failed > 0 {
		return fmt.Errorf("%s: %s failed", directory, printable.Count(failed, "test"))
	}
	return nil
}
