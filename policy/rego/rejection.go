package rego

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/policy"
)

// Rejection is a repository whose policy failed in a revision that is loaded.
type Rejection struct {
	Repository string
	Failure    error           // wraps [Errors], all of them with their file and line where that is known
	Kept       policy.Revision // whose rules of the repository decide; the zero value: none, and everything is denied
}

// Cause is the failure in one line.
func (r *Rejection) Cause() string { return firstLine(r.Failure) }

// Files lists the files that the failure names, sorted.
func (r *Rejection) Files() []string {
	errs, ok := errors.AsType[Errors](r.Failure)
	if !ok {
		return nil
	}
	var files []string
	for _, e := range errs {
		if e.File != "" {
			files = append(files, e.File)
		}
	}
	slices.Sort(files)
	return slices.Compact(files)
}

// RejectedError is the error of decisions for a repository whose policy was rejected and
// which has no earlier rules.
type RejectedError struct{ Rejection Rejection }

func (e *RejectedError) Error() string {
	return fmt.Sprintf("the policy of repository %s was rejected: %v", e.Rejection.Repository, e.Rejection.Failure)
}

// Unwrap returns the failure.
func (e *RejectedError) Unwrap() error { return e.Rejection.Failure }

// RejectedText begins the message of each denial for such a repository.
const RejectedText = "the policy of this repository was rejected: "

// ClientText is the message for the repository's own steps.
func (e *RejectedError) ClientText() string {
	return RejectedText + e.Rejection.Cause()
}

// maxCause bounds a failure in one line, in bytes.
const maxCause = 400

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return shortenTo(line, maxCause)
}

// notice is the message for the steps of the repository while its earlier rules are in
// force.
func (r *Rejection) notice() string {
	rules := "those of an earlier revision decide"
	if r.Kept.Commit != "" {
		rules = "those of commit " + shortCommit(r.Kept.Commit) + " decide"
	}
	return "the latest rules of this repository were rejected and " + rules + ": " + r.Cause()
}

func shortCommit(commit string) string { return commit[:min(len(commit), 12)] }

// Pending is a repository whose changed policy is not checked yet, while the rest of the
// revision is in force.
type Pending struct {
	Repository string
	Kept       policy.Revision // whose rules of the repository decide; the zero value: none, and everything is denied
}

// PendingError is the error of decisions for a repository whose policy is not checked yet
// and which has no earlier rules.
type PendingError struct{ Repository string }

func (e *PendingError) Error() string {
	return fmt.Sprintf("the policy of repository %s is not checked yet, and it has no earlier rules", e.Repository)
}

// PendingText is the message of each denial for such a repository.
const PendingText = "the policy of this repository is being checked: try again in a minute"

// ClientText is the message for the repository's own steps.
func (e *PendingError) ClientText() string { return PendingText }
