package identity

import "time"

// Coverage is whether a run of a deployment is in the audit log.
type Coverage string

// The classes of runs of deployments.
const (
	CoverageSeen         Coverage = "seen"          // its step is in the log
	CoveragePipelineOnly Coverage = "pipeline_only" // another step of its pipeline is, and it is not
	CoverageNotSeen      Coverage = "not_seen"      // nothing of its pipeline is
	CoverageCannotTell   Coverage = "unknown"       // Bitbucket did not tell enough
	CoverageNotRun       Coverage = "not_run"       // its step never ran
	CoveragePending      Coverage = "pending"       // it is not over, or too fresh to say
)

// Coverages are all classes, in the order in which they are told.
var Coverages = []Coverage{CoverageSeen, CoveragePipelineOnly, CoverageNotSeen, CoverageCannotTell, CoverageNotRun, CoveragePending}

// Missing reports whether the step that deployed did not come through.
func (c Coverage) Missing() bool { return c == CoverageNotSeen || c == CoveragePipelineOnly }

// Final reports whether nothing that is heard later changes the class.
func (c Coverage) Final() bool { return c == CoverageSeen || c == CoverageNotRun }

// DeploymentFinding is what was found of a run of a deployment.
type DeploymentFinding struct {
	DeploymentRun
	Coverage       Coverage
	Detail         string // why, where the class does not say it all; at most 1,000 bytes of text
	Found          time.Time
	Reconciliation string
}

// LookOutcome is what came of checking a repository.
type LookOutcome string

// The outcomes.
const (
	LookComplete    LookOutcome = "complete"
	LookAbsent      LookOutcome = "absent"    // there is no list of deployments, as where Pipelines is not enabled
	LookPartial     LookOutcome = "partial"   // it failed on the way
	LookForbidden   LookOutcome = "forbidden" // the access token may not read it
	LookGone        LookOutcome = "gone"      // the workspace lists it no more
	LookNotLookedAt LookOutcome = "not_scanned"
)

// LookOutcomes are all outcomes.
var LookOutcomes = []LookOutcome{LookComplete, LookAbsent, LookPartial, LookForbidden, LookGone, LookNotLookedAt}

// Told reports whether Bitbucket told all that there was.
func (o LookOutcome) Told() bool { return o == LookComplete || o == LookAbsent }

// DeploymentLook is one check a repository's runs of deployments.
type DeploymentLook struct {
	WorkspaceUUID  string
	RepositoryUUID string
	Repository     string // its full name then
	Outcome        LookOutcome
	Detail         string    // what went wrong; at most 1,000 bytes of text
	Began          time.Time // when it began
	Requests       int
	Runs           int
	InOrder        bool // all that was told came with the newest start first
	Whole          bool // the list was read to its end
	// Until is up to when every run was checked; zero where Outcome.Told is false.
	Until time.Time
}

// LookedAt is what is known of a repository from looks before.
type LookedAt struct {
	RepositoryUUID string
	Repository     string
	Latest         LookOutcome // of the latest, whatever it was
	At             time.Time   // when it was last checked; zero: never
	Deployments    int         // environments, as far as is known
}

// SeenStep is a step that is in the audit log.
type SeenStep struct {
	StepUUID       string
	PipelineUUID   string // empty: known by an admitted token alone
	DeploymentUUID string // empty: it deployed nothing, or as above
}
