// Package reconcile compares the deployments that Bitbucket knows of with the audit
// log: which deployments did not use Sallyport, and which repositories were scanned.
// HTTPS_PROXY is advisory, so the log alone does not show a deployment without it.
//
// A [Reconciler] works in the background, one instance at a time, within a budget
// of requests of its own. It keeps what it finds, and puts a digest of that into
// the log; a deployment that is missing gets an event of its own.
//
// The result is as reliable as Bitbucket's responses. A step that needs no network never
// uses Sallyport, and is still called not seen.
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
	// overlap is how far before the last look another one reaches: Bitbucket may
	// show a run later than it happened.
	overlap = 2 * time.Hour
	// wholeEvery is how often a list is read to its end although its order seems
	// to be known: nothing that Bitbucket documents promises that order.
	wholeEvery = 7 * 24 * time.Hour
	// maxRound is how long a run may be in progress before it is judged as one that
	// is over: no step runs longer than twelve hours.
	maxRound = 24 * time.Hour
	// maxPages bounds one list: 50,000 runs of one repository.
	maxPages = 500
	// maxFailures of different repositories in a row end a reconciliation: the API
	// is unavailable.
	maxFailures = 3

	// ownEvery is after how many intervals an instance reconciles by itself, although
	// the database reports that others did: every login that may record can add such rows.
	ownEvery = 4
	// maxSkew is how far the clock of another instance may be ahead.
	maxSkew = 5 * time.Minute

	minRetry       = time.Minute
	requestTimeout = 30 * time.Second // for the database, and for the log
)

// API queries Bitbucket about one workspace. Its methods wait until they may send a
// request, and end with ctx. Their errors wrap those of package identity if Bitbucket
// responded about the object; any other error means that the query failed. One goroutine
// uses it.
type API interface {
	// Repositories returns all of the workspace's, or an error.
	Repositories(ctx context.Context) ([]identity.KnownName, error)
	// Page returns one page of a repository's runs, the first where next is empty.
	Page(ctx context.Context, repositoryUUID, next string) (identity.DeploymentPage, error)
	// Step returns one step of a pipeline.
	Step(ctx context.Context, repositoryUUID, pipelineUUID, stepUUID string) (identity.StepRun, error)
	// Requests returns how many requests were made; anybody may call it.
	Requests() int64
}

// Session is the store while this instance is the one that reconciles. After an
// error of the database it is of no use any more. One goroutine uses it.
type Session interface {
	// Began returns when the log begins; zero: it is empty.
	Began(ctx context.Context) (time.Time, error)
	// Latest returns the latest reconciliation of a workspace, a UUIDv7; empty: none.
	Latest(ctx context.Context, workspaceUUID string) (string, error)
	// LastSuccess returns when the latest whole reconciliation of a workspace began, of
	// those before a time; zero: none was whole.
	LastSuccess(ctx context.Context, workspaceUUID string, before time.Time) (time.Time, error)
	ScanStates(ctx context.Context, workspaceUUID string) ([]identity.ScanState, error)
	// Environments counts each repository's deployment environments, as far as is known.
	Environments(ctx context.Context, workspaceUUID string) (map[string]int, error)
	// Findings returns the latest of each run of a repository that began since a time.
	Findings(ctx context.Context, repositoryUUID string, since time.Time) ([]identity.DeploymentFinding, error)
	// Seen returns the steps of these runs and of their pipelines that are in the log.
	Seen(ctx context.Context, repositoryUUID string, runs []identity.DeploymentRun) ([]identity.SeenStep, error)
	// Save adds findings and scans, all or nothing, durably.
	Save(ctx context.Context, reconciliation string, findings []identity.DeploymentFinding, scans []identity.RepositoryScan) error
	Counts(ctx context.Context, workspaceUUID string, since time.Time) (map[identity.DeploymentClass]int, error)
	// Unrecorded returns what no event names yet: reconciliations with their
	// workspace, and missing runs.
	Unrecorded(ctx context.Context, since time.Time) (map[string]string, []identity.DeploymentFinding, error)
	Digest(ctx context.Context, reconciliation string) ([]byte, error)
	Close()
}

// Workspace is one whose deployments are compared with the log.
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
	// Record makes an event durable, as the log does.
	Record func(context.Context, *audit.Event) error
	// Ready returns an error while the log is known to be unavailable, or has events that
	// wait: a run whose event is not written yet would be reported as missing. nil: it always is.
	Ready func() error

	Interval time.Duration // between two reconciliations of a workspace
	Lookback time.Duration // how long ago a run may have begun
	Settle   time.Duration // how long after its end a run has to be in the log
	Log      *slog.Logger  // nil: none
	Now      func() time.Time
}

// Status is the state, for /readyz and metrics, of each workspace together.
// Of a reconciliation that another instance made only its time and what is found of
// deployments is known.
type Status struct {
	At          time.Time // when the latest began; zero: none yet
	LastSuccess time.Time // when the latest whole one began, of the workspace where that is longest ago; zero: not known of every workspace
	Took        time.Duration
	Err         error // what kept the latest from being whole
	// Busy is set while another session holds the lock of reconciliation: an
	// instance that reconciles, unless it holds the lock for days.
	Busy         *identity.ReconciliationBusy
	Deployments  map[identity.DeploymentClass]int
	Repositories map[identity.ScanOutcome]int
	Requests     int64 // since the start
}

// New returns a reconciler, which does nothing until Run.
func New(c Config) *Reconciler {
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Ready == nil {
		c.Ready = func() error { return nil }
	}
	return &Reconciler{config: c, cursors: map[string]cursor{}, told: map[string]bool{}, latest: map[string]outcome{}, own: map[string]time.Time{}, marks: map[string]mark{}}
}
