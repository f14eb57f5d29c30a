package policycmd

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/policy/rego"
)

// testOutputs are what `policy test` writes besides its text.
type testOutputs struct {
	junit    *string
	coverage *bool
	least    *float64
	asJSON   func() bool
}

func addTestOutputs(c *cobra.Command) testOutputs {
	return testOutputs{
		junit:    c.Flags().String("junit", "", "write the results as JUnit XML to this `FILE`, such as test-results/policy.xml"),
		coverage: c.Flags().Bool("coverage", false, "show which lines of the policy no test went through"),
		least:    c.Flags().Float64("min-coverage", 0, "fail where the tests go through less than so many `PERCENT` of the policy's lines"),
		asJSON:   cli.AddFormatFlag(c),
	}
}

func (o testOutputs) write(out io.Writer, directory string, report *rego.TestReport, verbose bool) error {
	if *o.least < 0 || *o.least > 100 {
		return cli.Invalid(fmt.Errorf("--min-coverage %g: want 0 to 100", *o.least))
	}
	if *o.junit != "" {
		if err := writeJUnit(*o.junit, directory, report); err != nil {
			return err
		}
	}
	if o.asJSON() {
		result := newTestsJSON(directory, report, *o.coverage)
		return cli.PrintFinding(out, result, !result.Passed || report.Coverage < *o.least)
	}
	if *o.coverage {
		for _, f := range report.Files {
			for _, missed := range f.Missed {
				lines := fmt.Sprint(missed[0])
				if missed[1] != missed[0] {
					lines = fmt.Sprintf("%d-%d", missed[0], missed[1])
				}
				fmt.Fprintf(out, "not covered: %s:%s\n", filepath.Join(directory, f.File), lines)
			}
		}
	}
	err := printTests(out, directory, report, verbose)
	if err == nil && report.Coverage < *o.least {
		return fmt.Errorf("%s: the tests go through %.1f %% of the policy's lines, and %g %% are asked for: --coverage shows which they leave out", directory, report.Coverage, *o.least)
	}
	return err
}

// The form that CI systems read test results in, Bitbucket Pipelines among them.
type junitSuites struct {
	XMLName xml.Name     `xml:"testsuites"`
	Suites  []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Time     string      `xml:"time,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	File    string        `xml:"file,attr"`
	Line    int           `xml:"line,attr"`
	Time    string        `xml:"time,attr"`
	Failure *junitFailure `xml:"failure,omitempty"`
	Output  string        `xml:"system-out,omitempty"`
}

type junitFailure struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// writeJUnit writes the results, one suite a package, in the packages' order. The
// folder is made where it is missing.
func writeJUnit(path, directory string, report *rego.TestReport) error {
	var all junitSuites
	places := map[string]int{}
	var spent []time.Duration
	for _, t := range report.Results {
		i, known := places[t.Package]
		if !known {
			i = len(all.Suites)
			places[t.Package] = i
			all.Suites, spent = append(all.Suites, junitSuite{Name: t.Package}), append(spent, 0)
		}
		s := &all.Suites[i]
		c := junitCase{Class: t.Package, Name: t.Name, File: filepath.Join(directory, t.File), Line: t.Line, Time: seconds(t.Duration), Output: t.Output}
		if !t.Passed {
			message := t.Message
			if message == "" {
				message = "the test failed"
			}
			c.Failure = &junitFailure{Message: message, Text: fmt.Sprintf("%s:%d: %s", c.File, t.Line, message)}
			s.Failures++
		}
		s.Tests++
		spent[i] += t.Duration
		s.Cases = append(s.Cases, c)
	}
	for i := range all.Suites {
		all.Suites[i].Time = seconds(spent[i])
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return cli.Invalid(fmt.Errorf("--junit: %w", err))
	}
	file, err := os.Create(path)
	if err != nil {
		return cli.Invalid(fmt.Errorf("--junit: %w", err))
	}
	_, err = io.WriteString(file, xml.Header)
	e := xml.NewEncoder(file)
	e.Indent("", "  ")
	err = errors.Join(err, e.Encode(all), e.Close())
	_, last := io.WriteString(file, "\n")
	return errors.Join(err, last, file.Close())
}

func seconds(d time.Duration) string {
	return fmt.Sprintf("%.6f", d.Seconds())
}
