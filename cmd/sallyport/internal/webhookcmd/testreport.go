package webhookcmd

import (
	"fmt"
	"io"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
)

// testStage is one stage of a test.
type testStage struct {
	Stage  string `json:"stage"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
	Remedy string `json:"remedy,omitempty"`
}

// testReport is the result of a test. It is printed stage by stage as text, or at the end as
// JSON.
type testReport struct {
	Receiver string      `json:"receiver"`
	URL      string      `json:"url"`
	OK       bool        `json:"ok"`
	Delivery string      `json:"delivery,omitempty"` // the id, once it is known
	Stages   []testStage `json:"stages"`

	out    io.Writer
	asJSON bool
	err    error // of a write
}

// ok reports a stage that succeeded.
func (r *testReport) ok(stage, format string, args ...any) {
	r.add(testStage{Stage: stage, OK: true, Detail: fmt.Sprintf(format, args...)})
}

// failed reports a stage that failed.
func (r *testReport) failed(stage, remedy, format string, args ...any) {
	r.add(testStage{Stage: stage, Detail: fmt.Sprintf(format, args...), Remedy: remedy})
}

func (r *testReport) add(s testStage) {
	s.Detail = clean(s.Detail)
	r.Stages = append(r.Stages, s)
	if r.asJSON {
		return
	}
	mark, text := "ok    ", s.Detail
	if !s.OK {
		mark = "FAILED"
		if s.Remedy != "" {
			text += ": " + s.Remedy
		}
	}
	if _, err := fmt.Fprintf(r.out, "%s  %s: %s\n", mark, s.Stage, text); err != nil && r.err == nil {
		r.err = err
	}
}

// end prints what is left, and returns the command's error.
func (r *testReport) end() error {
	r.OK = true
	for _, s := range r.Stages {
		r.OK = r.OK && s.OK
	}
	switch {
	case r.err != nil:
		return r.err
	case r.asJSON:
		return cli.PrintFinding(r.out, r, !r.OK)
	case !r.OK:
		return cli.FindingError{}
	}
	return nil
}
