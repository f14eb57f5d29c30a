package netcheck

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/sallyport/sallyport/internal/stepapi"
)

// ErrNotEnforced is the error of a check that found an open path, could not decide, or
// could not record its results. Run has printed the cause.
var ErrNotEnforced = errors.New("the network does not enforce the proxy, or that could not be shown")

// report is the JSON form of a check.
type report struct {
	Results   []stepapi.NetworkResult `json:"results"`
	Open      int                     `json:"open"`
	Undecided int                     `json:"undecided"`
	Recorded  bool                    `json:"recorded"`
	Problem   string                  `json:"problem,omitempty"` // why the results are not recorded
}

// Run checks, records the results with Config.Send and prints them to out. It returns
// ErrNotEnforced, or an error if the configuration is invalid; nil means that every test
// was blocked and that the results are recorded.
func Run(ctx context.Context, c Config, out io.Writer) error {
	check, err := Check(ctx, c)
	if err != nil {
		return fmt.Errorf("check-network: %w", err)
	}
	r := report{Results: check.Results}
	for _, result := range check.Results {
		switch result.Outcome {
		case stepapi.OutcomeBlocked:
		case stepapi.OutcomeOpen:
			r.Open++
		default:
			r.Undecided++
		}
	}
	if c.Send != nil {
		if err := c.Send(ctx, check); err != nil {
			r.Problem = err.Error()
		} else {
			r.Recorded = true
		}
	}
	if c.JSON {
		err = printJSON(out, &r)
	} else {
		err = printLines(out, &r)
	}
	if err != nil {
		return fmt.Errorf("check-network: print: %w", err)
	}
	if r.Open > 0 || r.Undecided > 0 || r.Problem != "" {
		return ErrNotEnforced
	}
	return nil
}

func printJSON(out io.Writer, r *report) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// printLines prints one line for each test, and a summary.
func printLines(out io.Writer, r *report) error {
	width := 0
	for _, result := range r.Results {
		width = max(width, len(result.Address))
	}
	for _, result := range r.Results {
		if _, err := fmt.Fprintf(out, "%-8s%-10s  %-*s  %s\n", result.Outcome, result.Test, width, result.Address, result.Detail); err != nil {
			return err
		}
	}
	summary := "all tests are blocked"
	switch {
	case r.Open > 0:
		summary = fmt.Sprintf("%d of %d tests reach the network around the proxy: install the firewall rules of deploy/runner", r.Open, len(r.Results))
	case r.Undecided > 0:
		summary = fmt.Sprintf("%d of %d tests cannot be decided: see their lines", r.Undecided, len(r.Results))
	}
	if r.Problem != "" {
		summary += "; the results are not in the audit log: " + r.Problem
	}
	_, err := fmt.Fprintf(out, "sallyport-step: %s\n", summary)
	return err
}
