// Package reconcile compares the deployments that Bitbucket reports with the audit log. It
// finds which deployments did not use Sallyport, and records which repositories were scanned.
// A step can ignore HTTPS_PROXY, and the log alone does not show such a deployment.
//
// A [Reconciler] works in the background, one instance at a time, within its own budget of
// requests. It stores its findings, and records a digest of the findings in the log. Each
// missing deployment has an event of its own.
//
// The result is as reliable as Bitbucket's responses. A step that needs no network never
// uses Sallyport, and is still classified as unobserved.
package reconcile

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
)

const (
	// overlap is how far a scan reaches back before the previous one: Bitbucket may list a
	// run later than it happened.
	overlap = 2 * time.Hour
	// fullScanInterval is the interval at which a list is read to its end although it is
	// in order so far: Bitbucket does not document the order.
	fullScanInterval = 7 * 24 * time.Hour
	// maxRunDuration is how long a run may be in progress before it is classified like a
	// finished one: no step runs longer than twelve hours.
	maxRunDuration = 24 * time.Hour
	// maxPages bounds one list: 50,000 runs of one repository.
	maxPages = 500
	// maxFailures of different repositories in a row end a reconciliation: the API
	// is unavailable.
	maxFailures = 3

	// ownEvery is the number of intervals after which an instance reconciles itself, even
	// if the database reports reconciliations of others. Every login that may record can
	// add such rows.
	ownEvery = 4
	// maxSkew is how far the clock of another instance may be ahead.
	maxSkew = 5 * time.Minute

	minRetry       = time.Minute
	requestTimeout = 30 * time.Second // for the database, and for the log
)

// API queries Bitbucket about one workspace. Its methods wait for the budget of requests and
// end with ctx. If Bitbucket's response is about the object, the error wraps one of package
// identity. Any other error means that the query failed. One goroutine uses an API, except
// for Requests.
type API interface {
	// Repositories returns all repositories of the workspace, or an error.
	Repositories(ctx context.Context) ([]identity.KnownName, error)
	// Page returns one page of a repository's runs; the first if next is empty.
	Page(ctx context.Context, repositoryUUID, next string) (identity.DeploymentPage, error)
	// Step returns one step of a pipeline.
	Step(ctx context.Context, repositoryUUID, pipelineUUID, stepUUID string) (identity.StepRun, error)
	// Requests returns the number of requests so far. It is safe for concurrent use.
	Requests() int64
}

// Session is access to the store while this instance holds the lock of reconciliation. After
// an error of the database the caller must open another. One goroutine uses a Session.
type Session interface {
	// Began returns the time of the first event in the log; zero: the log is empty.
	Began(ctx context.Context) (time.Time, error)
	// Latest returns the id (a UUIDv7) of the latest reconciliation of a workspace; empty:
	// none.
	Latest(ctx context.Context, workspaceUUID string) (string, error)
	// LastSuccess returns the start of the latest complete reconciliation of a workspace
	// before a time; zero: none is complete.
	LastSuccess(ctx context.Context, workspaceUUID string, before time.Time) (time.Time, error)
	ScanStates(ctx context.Context, workspaceUUID string) ([]identity.ScanState, error)
	// Environments returns the number of known deployment environments by repository UUID.
	Environments(ctx context.Context, workspaceUUID string) (map[string]int, error)
	// Findings returns the latest finding for each run of a repository that began since a
	// time.
	Findings(ctx context.Context, repositoryUUID string, since time.Time) ([]identity.DeploymentFinding, error)
	// Seen returns the steps in the log that belong to these runs or to their pipelines.
	ObservedSteps(ctx context.Context, repositoryUUID string, runs []identity.DeploymentRun) ([]identity.ObservedStep, error)
	// Save stores findings and scans durably, in one transaction.
	Save(ctx context.Context, reconciliation string, findings []identity.DeploymentFinding, scans []identity.RepositoryScan) error
	Counts(ctx context.Context, workspaceUUID string, since time.Time) (map[identity.DeploymentClass]int, error)
	// Unrecorded returns the reconciliations without an event, with their workspaces, and
	// the missing runs without an event.
	Unrecorded(ctx context.Context, since time.Time) (map[string]string, []identity.DeploymentFinding, error)
	Digest(ctx context.Context, reconciliation string) ([]byte, error)
	Close()
}

// Workspace is a Bitbucket workspace whose deployments are compared with the log.
type Workspace struct {
	UUID string
	Slug string
	API  API
}

// Config configures a [Reconciler].
type Config struct {
	Workspaces []Workspace
	// Open acquires the lock of reconciliation. Its error is an
	// [identity.ReconciliationBusy] while another session holds the lock.
	Open func(context.Context) (Session, error)
	// Record records an event durably in the log.
	Record func(context.Context, *audit.Event) error
	// Ready returns an error while the log is known to be unavailable or has waiting events:
	// a run whose event is not written yet would be reported as missing. nil: always ready.
	Ready func() error

	Interval    time.Duration // between two reconciliations of a workspace
	Lookback    time.Duration // the maximum age of a run, since its start
	GracePeriod time.Duration // after the end of a run, until its events must be in the log
	Log         *slog.Logger  // nil: none
	Now         func() time.Time
}

// Status is the combined state of all workspaces, for /readyz and metrics. For a
// reconciliation by another instance, only its time and the classes of deployments are known.
type Status struct {
	At time.Time // start of the latest reconciliation; zero: none yet
	// LastSuccess is the start of the latest complete reconciliation, the oldest among the
	// workspaces. Zero: not known for every workspace.
	LastSuccess time.Time
	Duration    time.Duration
	Err         error // why the latest reconciliation is not complete
	// Busy is set while another session holds the lock of reconciliation. That is usually
	// an instance that reconciles, unless the session holds the lock for days.
	Busy         *identity.ReconciliationBusy
	Deployments  map[identity.DeploymentClass]int
	Repositories map[identity.ScanOutcome]int
	Requests     int64 // since the start
}

// New returns a reconciler. It does nothing until [Reconciler.Run].
func New(c Config) *Reconciler {
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Ready == nil {
		c.Ready = func() error { return nil }
	}
	return &Reconciler{config: c, cursors: map[string]cursor{}, recorded: map[string]bool{}, latest: map[string]outcome{}, own: map[string]time.Time{}, marks: map[string]mark{}}
}
