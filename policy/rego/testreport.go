package rego

import "time"

// testTimeout bounds one test of a policy, and testsTimeout all tests of the organization
// or of one repository: otherwise the slow tests of one repository could delay the next
// revision of all.
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
	Retry    bool // it exceeded a limit on time or memory: it may pass later
}

// TestReport is the outcome of a policy's tests.
type TestReport struct {
	Results  []TestResult
	Coverage float64 // percent of the deciding files' lines that the tests evaluated
	Files    []FileCoverage
}

// FileCoverage is the test coverage of a deciding file.
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
