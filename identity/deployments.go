package identity

import (
	"errors"
	"fmt"
	"time"
)

// DeploymentRun is what Bitbucket calls a deployment: one run of a step that
// deploys to an environment. Here a deployment is the environment, as everywhere;
// this is one use of it. Every UUID is bare and lower-case. What Bitbucket did not
// report is empty.
type DeploymentRun struct {
	UUID           string
	WorkspaceUUID  string
	RepositoryUUID string
	DeploymentUUID string // the environment
	PipelineUUID   string
	StepUUID       string
	BuildNumber    int64
	State          DeploymentState
	Created        time.Time
	Started        time.Time // zero: not reported, or it has not begun
	Completed      time.Time
	Updated        time.Time // when Bitbucket last changed it; zero: not reported
}

// Latest is the latest moment that Bitbucket names for the run; zero: none.
func (r *DeploymentRun) Latest() time.Time {
	var latest time.Time
	for _, t := range []time.Time{r.Created, r.Started, r.Completed, r.Updated} {
		if t.After(latest) {
			latest = t
		}
	}
	return latest
}

// Began is the reported start of the run, or else its creation.
func (r *DeploymentRun) Began() time.Time {
	if r.Started.IsZero() {
		return r.Created
	}
	return r.Started
}

// DeploymentState is how far a run of a deployment is.
type DeploymentState string

// The states. A state that is not known here is DeploymentUnknown, and counts as
// one that may have run.
const (
	DeploymentWaiting    DeploymentState = "waiting" // it was not started
	DeploymentInProgress DeploymentState = "in_progress"
	DeploymentSuccessful DeploymentState = "successful"
	DeploymentFailed     DeploymentState = "failed"
	DeploymentStopped    DeploymentState = "stopped"
	DeploymentUnknown    DeploymentState = "unknown"
)

// Over reports whether nothing more comes of a run in this state.
func (s DeploymentState) Over() bool {
	return s == DeploymentSuccessful || s == DeploymentFailed || s == DeploymentStopped
}

// DeploymentPage is one page of a repository's runs of deployments.
type DeploymentPage struct {
	Runs   []DeploymentRun
	Unread int    // objects on it that could not be read
	Next   string // opaque; empty: this is the last
}

// StepRun is a step of a pipeline as Bitbucket reports it.
type StepRun struct {
	Started time.Time // zero: it never began
	Over    bool
}

// Errors of queries for deployments. Any other error does not concern the queried
// object.
var (
	// ErrAbsent: Bitbucket knows no such object, or does not show it to this token.
	ErrAbsent = errors.New("no such thing in Bitbucket, or it is not shown to this access token")
	// ErrForbidden: the access token may not read it.
	ErrForbidden = errors.New("the access token may not read it")
	// ErrCursor: a page cannot be asked for any more; the list has to be read again.
	ErrCursor = errors.New("the page is not known to Bitbucket any more")
)

// ReconciliationBusy is the error where another session holds the lock of
// reconciliation.
type ReconciliationBusy struct {
	Holder string    // the session and its login, for an operator who may end it
	Since  time.Time // when it acquired the lock; zero: unknown
}

func (e *ReconciliationBusy) Error() string {
	if e.Since.IsZero() {
		return fmt.Sprintf("acquire the lock of reconciliation: session %s holds it: end that session with pg_terminate_backend if it is not an instance that reconciles", e.Holder)
	}
	return fmt.Sprintf("acquire the lock of reconciliation: session %s has held it since %s: end that session with pg_terminate_backend if it is not an instance that reconciles",
		e.Holder, e.Since.UTC().Format(time.RFC3339))
}
