package identity

import "time"

// DeploymentClass is whether the audit log contains a run of a deployment.
type DeploymentClass string

// The classes of runs of deployments.
const (
	ClassObserved     DeploymentClass = "observed"      // the log contains its step
	ClassPipelineOnly DeploymentClass = "pipeline_only" // the log contains another step of its pipeline, and not its step
	ClassUnobserved   DeploymentClass = "unobserved"    // the log contains no step of its pipeline
	ClassUnknown      DeploymentClass = "unknown"       // Bitbucket did not report enough
	ClassNotRun       DeploymentClass = "not_run"       // its step never ran
	ClassPending      DeploymentClass = "pending"       // it has not ended, or ended within the grace period
)

// DeploymentClasses are all classes, in the order of reports.
var DeploymentClasses = []DeploymentClass{ClassObserved, ClassPipelineOnly, ClassUnobserved, ClassUnknown, ClassNotRun, ClassPending}

// Missing reports whether the step that deployed did not use Sallyport.
func (c DeploymentClass) Missing() bool { return c == ClassUnobserved || c == ClassPipelineOnly }

// Final reports whether no later information changes the class.
func (c DeploymentClass) Final() bool { return c == ClassObserved || c == ClassNotRun }

// DeploymentFinding is the result for a run of a deployment.
type DeploymentFinding struct {
	DeploymentRun
	Class          DeploymentClass
	Detail         string // the reason, if the class does not contain it; at most 1,000 bytes of text
	Found          time.Time
	Reconciliation string
}

// ScanOutcome is the outcome of the scan of a repository.
type ScanOutcome string

// The outcomes.
const (
	ScanComplete  ScanOutcome = "complete"
	ScanAbsent    ScanOutcome = "absent"    // there is no list of deployments, as where Pipelines is not enabled
	ScanPartial   ScanOutcome = "partial"   // it failed before the end
	ScanForbidden ScanOutcome = "forbidden" // the access token may not read it
	ScanGone      ScanOutcome = "gone"      // the workspace no longer lists it
	ScanSkipped   ScanOutcome = "not_scanned"
)

// ScanOutcomes are all outcomes.
var ScanOutcomes = []ScanOutcome{ScanComplete, ScanAbsent, ScanPartial, ScanForbidden, ScanGone, ScanSkipped}

// Conclusive reports whether Bitbucket returned every run.
func (o ScanOutcome) Conclusive() bool { return o == ScanComplete || o == ScanAbsent }

// RepositoryScan is one scan of a repository's runs of deployments.
type RepositoryScan struct {
	WorkspaceUUID  string
	RepositoryUUID string
	Repository     string // its full name at that time
	Outcome        ScanOutcome
	Detail         string    // the error; at most 1,000 bytes of text
	Began          time.Time // when it began
	Requests       int
	Runs           int
	InOrder        bool // the newest start came first in every response
	Whole          bool // the list was read to its end
	// Until is the time up to which every run was scanned; zero if Outcome is not conclusive.
	Until time.Time
}

// ScanState is the result of the earlier scans of a repository.
type ScanState struct {
	RepositoryUUID string
	Repository     string
	Latest         ScanOutcome // of the latest scan
	At             time.Time   // of the latest scan; zero: never
	Deployments    int         // known environments
}

// ObservedStep is a step that the audit log contains.
type ObservedStep struct {
	StepUUID       string
	PipelineUUID   string // empty: known by an admitted token only
	DeploymentUUID string // empty: it deployed nothing, or as above
}
