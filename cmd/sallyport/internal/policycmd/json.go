package policycmd

import (
	"path/filepath"

	"github.com/sallyport/sallyport/policy/rego"
)

// problemJSON is an error, a warning or a note of `policy check` or `policy test`.
type problemJSON struct {
	Severity string `json:"severity"` // error, warning or note
	File     string `json:"file,omitempty"`
	Line     int    `json:"line,omitempty"`
	Column   int    `json:"column,omitempty"`
	Message  string `json:"message"`
	Hint     string `json:"hint,omitempty"`
}

func problemsJSON(directory, severity string, list rego.Errors) []problemJSON {
	all := make([]problemJSON, 0, len(list))
	for _, e := range list {
		if e.File != "" {
			e.File = filepath.Join(directory, e.File)
		}
		all = append(all, problemJSON{severity, e.File, e.Line, e.Column, e.Message, e.Hint})
	}
	return all
}

// checkJSON is the result of `policy check`.
type checkJSON struct {
	Directory string        `json:"directory"`
	Accepted  bool          `json:"accepted"`
	Files     int           `json:"files"`
	Problems  []problemJSON `json:"problems"`
}

// testsJSON is the result of `policy test`. A policy that does not load has problems and
// no tests.
type testsJSON struct {
	Directory string        `json:"directory"`
	Passed    bool          `json:"passed"`
	Coverage  float64       `json:"coverage_percent"`
	Tests     []testJSON    `json:"tests"`
	Missed    []missedJSON  `json:"not_covered,omitempty"` // with --coverage
	Problems  []problemJSON `json:"problems,omitempty"`
}

type testJSON struct {
	Package  string  `json:"package"`
	Name     string  `json:"name"`
	File     string  `json:"file"`
	Line     int     `json:"line"`
	Passed   bool    `json:"passed"`
	Message  string  `json:"message,omitempty"`
	Output   string  `json:"output,omitempty"`
	Duration float64 `json:"duration_seconds"`
}

// missedJSON are consecutive lines that no test went through.
type missedJSON struct {
	File  string `json:"file"`
	First int    `json:"first_line"`
	Last  int    `json:"last_line"`
}

func newTestsJSON(directory string, report *rego.TestReport, coverage bool) testsJSON {
	result := testsJSON{Directory: directory, Passed: report.Passed(), Coverage: report.Coverage, Tests: []testJSON{}}
	for _, t := range report.Results {
		result.Tests = append(result.Tests, testJSON{t.Package, t.Name, filepath.Join(directory, t.File), t.Line, t.Passed, t.Message, t.Output, t.Duration.Seconds()})
	}
	if !coverage {
		return result
	}
	for _, f := range report.Files {
		for _, lines := range f.Missed {
			result.Missed = append(result.Missed, missedJSON{filepath.Join(directory, f.File), lines[0], lines[1]})
		}
	}
	return result
}
