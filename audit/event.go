// Package audit has the events of the audit log and their verification.
//
// An [Event] is one record of the log. It is a wire format that outlives the
// code: it imports nothing of ours, and copying values into it is what keeps a
// secret from slipping in with a new struct field.
package audit

import (
	"net/netip"
	"time"
)

// Kind is the subject of an event.
type Kind string

// The kinds of events.
const (
	KindDecision             Kind = "decision"              // a principal asked for something
	KindTunnelClosed         Kind = "tunnel_closed"         // an allowed CONNECT is over
	KindRequestClosed        Kind = "request_closed"        // an allowed HTTP request is over
	KindPolicyLoaded         Kind = "policy_loaded"         // a revision began to decide
	KindPolicyRejected       Kind = "policy_rejected"       // a revision was offered and rejected
	KindPolicyReevaluated    Kind = "policy_reevaluated"    // open tunnels and requests were evaluated by a new revision
	KindPolicyApproval       Kind = "policy_approval"       // who approved the pull request of an activated commit
	KindExceptionExpiring    Kind = "exception_expiring"    // an exception of the policy ends soon
	KindCandidateMismatch    Kind = "candidate_mismatch"    // a candidate would have decided otherwise
	KindWriterStarted        Kind = "writer_started"        // a writer's first event
	KindWriterEnded          Kind = "writer_ended"          // a writer's last event
	KindWriterLost           Kind = "writer_lost"           // another writer is gone without its end
	KindSigningKey           Kind = "signing_key"           // a key signs the checkpoints from then on
	KindNameReassigned       Kind = "name_reassigned"       // a name belongs to another UUID now
	KindAdmin                Kind = "admin"                 // an operator did something
	KindLogForked            Kind = "log_forked"            // the database holds another log than was published
	KindExport               Kind = "export"                // rows were handed out of the log
	KindRetention            Kind = "retention"             // the events of a month were removed
	KindHoldSet              Kind = "hold_set"              // months are kept from retention
	KindHoldLifted           Kind = "hold_lifted"           // and no longer
	KindReconciled           Kind = "reconciled"            // Bitbucket's deployments were compared with the log
	KindDeploymentUnobserved Kind = "deployment_unobserved" // one of them never came through
	KindSelfTest             Kind = "self_test"             // a probe of our own was refused and one was allowed, or not
	KindCheckpointsThinned   Kind = "checkpoints_thinned"   // old checkpoints between others of the same hour were removed
	KindRefusalsRepeated     Kind = "refusals_repeated"     // how often a recorded refusal was repeated; by the decision id of that refusal
	KindUnrecordedTotals     Kind = "unrecorded_totals"     // how many attempts were refused without an event of their own
	// The rules of one repository were rejected, while the rest of the revision became
	// active: attributes kind, files, in_force.
	KindRepositoryPolicyRejected Kind = "repository_policy_rejected"
	// Rules or tests of a repository ended a worker process: attributes cause, limit.
	KindPolicyWorkerTerminated Kind = "policy_worker_terminated"
	// These two report who could reach the log, and its schema.
	KindSchemaAttested Kind = "schema_attested" // what the schema is, against what the program installs
	KindAccessAttested Kind = "access_attested" // which roles can do what to the log, by which path
	// These two explain why numbers of a writer are missing: attributes writer, first,
	// last (its numbers, both included) and reason.
	KindEventsLost  Kind = "events_lost"  // a writer's acknowledged events are not in the database any more
	KindGapDeclared Kind = "gap_declared" // the owner declares, signed, that numbers never come; by DatabaseWriter
)

// DatabaseWriter is the writer of what the database itself records: exports,
// retention and holds. It has no start and no end.
const DatabaseWriter = "database"

// Event is one audit record. Its strings may hold any bytes: [Event.Normalise]
// makes them fit to be written. A zero field is absent, from the record as from
// the columns. An Event is not safe for concurrent use.
type Event struct {
	// When and what. Writer and WriterSequence are set by the log.
	Time           time.Time // stamped once, before the first attempt to write
	Kind           Kind
	DecisionID     string // UUIDv7, shared by a decision and what closes it
	Writer         string
	WriterSequence int64 // from 1, without gaps

	// Who, as verified, and as named at that moment.
	Issuer         string
	CredentialKind string
	WorkspaceUUID  string
	RepositoryUUID string
	DeploymentUUID string
	PipelineUUID   string
	StepUUID       string
	Workspace      string
	Repository     string // the full name
	Project        string
	Deployment     string
	DeploymentType string
	Branch         string
	ClientAddress  netip.Addr
	Listener       string

	// What was asked.
	Action    string
	Scheme    string
	Host      string
	Port      uint16
	Method    string
	Path      string
	TargetRaw string // as it came, where it is not the canonical form

	// The outcome.
	Verdict    string
	Mode       string
	WouldDeny  bool
	Reason     string
	Rule       string
	Rules      []string // all that matched; empty also where that is Rule alone
	Exceptions []string // places of the policy's exceptions that applied; see [Event.AddExceptions]
	Message    string
	Revision   string // the policy's content digest
	Commit     string // its Git commit
	// RepositoryRevision is the digest of the earlier policy whose rules of the
	// repository took part; empty: those of Revision did.
	RepositoryRevision string
	Status             int    // ours
	UpstreamProxy      string // the URL of the proxy that the way out led through; empty: none
	DialedAddress      netip.Addr
	Addresses          []netip.Addr // all that were pinned; empty also where that is DialedAddress alone
	BytesSent          int64        // bytes written to the connection to the target; only in a closing event
	BytesReceived      int64        // bytes read from it and passed on
	Duration           time.Duration
	CloseReason        string
	UpstreamStatus     int

	// Attributes have further values, in the order given. Names are ours, values may be anything.
	Attributes []Attribute
	// Input is the canonical JSON that policy evaluated; it must be valid JSON
	// without U+0000.
	Input []byte

	// Source is not part of the record: whose share of a queue the event takes.
	Source Source
}

// Source is whom an event is about, for the shares of queues and of the journal.
// The zero Source is the server itself, which has no share.
type Source struct {
	Repository string // UUID; empty: no credential was accepted
	Step       string // UUID, or the client's address where Repository is empty
}

// Repeats is the attribute of a refusal, as it is read back, with the count of how often it
// was repeated without an event of its own.
const Repeats = "repeats"

// Attribute is one more fact about an event.
type Attribute struct {
	Name  string
	Value string
}

// MaxOpen bounds the time from a decision to the end of what it allowed, with a
// day for clocks that are stepped: egress.tunnel.max_lifetime is at most a week.
// Who looks an end up by its decision, or a decision by its end, may rely on it.
const MaxOpen = 8 * 24 * time.Hour

// IsClosing reports whether the event ends what a decision began, so that
// byte counts and the duration are facts even when they are zero. An end has no
// field that repeats its decision, which has the same DecisionID: reason, rule,
// message and revision are there only where a later decision ended it.
func (e *Event) IsClosing() bool {
	return e.Kind == KindTunnelClosed || e.Kind == KindRequestClosed
}
