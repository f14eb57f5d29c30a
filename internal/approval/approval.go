// Package approval finds who approved the pull requests that activated commits were
// merged by, and records it.
//
// No activation waits for it: Bitbucket is asked afterwards, once for each commit and
// log, and the result is an event of its own. The log itself contains which commits
// are open, so that a restart loses nothing.
package approval

import (
	"context"
	"log/slog"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
)

// Outcome is what is known of the approval of a commit: a closed vocabulary, from the
// best to the worst.
type Outcome string

// The outcomes.
const (
	Approved      Outcome = "approved"        // by an account that wrote none of it
	SelfApproved  Outcome = "self_approved"   // by its authors alone
	NotApproved   Outcome = "not_approved"    // the pull request has no approval that stands
	NoPullRequest Outcome = "no_pull_request" // no pull request merged it into the branch
	Unknown       Outcome = "unknown"         // Bitbucket did not report enough
)

// Outcomes are all of them, in that order.
var Outcomes = []Outcome{Approved, SelfApproved, NotApproved, NoPullRequest, Unknown}

// Activation is a commit whose approval is not recorded.
type Activation struct {
	Commit   string
	Revision string
	At       time.Time // of the first activation
	// Commits are those that it brought, the newest first: the commit itself and what
	// is between it and the commit that decided before, on the first-parent line.
	Commits []string
	More    bool // there are more of them than are listed
}

// API queries one repository. Its errors wrap those of package identity, or do not
// concern the commit.
type API interface {
	OfCommit(ctx context.Context, commit string) ([]int64, error)
	PullRequest(ctx context.Context, id int64) (identity.PullRequest, error)
	Commits(ctx context.Context, id int64) ([]identity.PullRequestCommit, error)
	Requests() int64
}

// Log is the part of the audit log that is needed.
type Log interface {
	// Unapproved lists activations since a time that have no event of kind
	// policy_approval, the oldest first.
	Unapproved(ctx context.Context, since time.Time) ([]Activation, error)
	// Record records an event, and returns when it is durable.
	Record(ctx context.Context, e *audit.Event) error
}

// Config is the configuration of a Watcher.
type Config struct {
	Log        Log
	API        API
	Repository string // workspace/name, for the record
	Branch     string // that decides; empty: any, where a tag does

	// Deadline is how long after an activation Bitbucket is queried before the outcome
	// is unknown. Settle is how long before the outcome is no_pull_request: Bitbucket
	// links commits with pull requests with a delay.
	Deadline, Settle time.Duration
	// Interval is how often the log is read for activations of other instances.
	Interval time.Duration
	// Stagger bounds the random delay after an instance's own activation, so that one
	// of several instances queries and the others find its event.
	Stagger time.Duration

	Logger *slog.Logger
	Now    func() time.Time // nil: time.Now

	without string // a check that a test leaves out
}

// Lookback is how old an activation may be to be asked about.
const Lookback = 30 * 24 * time.Hour

const (
	minRetry = 30 * time.Second
	maxRetry = time.Hour
	// maxCommits bounds the commits of one activation whose approvals are read.
	maxCommits = 20
)

// Status is what an operator sees.
type Status struct {
	Open     int // commits without a record
	Oldest   time.Time
	Recorded map[Outcome]int64 // by this instance
	Requests int64
	Err      error // of the latest round; nil: there was none
	Read     bool  // the latest round read everything that was due
}
