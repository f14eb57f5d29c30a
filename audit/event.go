// Package audit has the events of the audit log and their verification.
//
// An [Event] is one record of the log. Its wire format is permanent, so this package imports
// no other package of Sallyport. Values are copied into an event field by field, so that a
// new field of another struct cannot add a secret to the log.
package audit

import (
	"net/netip"
	"time"
)

// Kind is the subject of an event.
type Kind string

// The kinds of events.
const (
	KindDecision             Kind = "decision"              // the decision about a request
	KindTunnelClosed         Kind = "tunnel_closed"         // the end of an allowed CONNECT tunnel
	KindRequestClosed        Kind = "request_closed"        // the end of an allowed HTTP request
	KindWouldClose           Kind = "would_close"           // report mode let a tunnel continue: close_reason is what enforce mode closes it with
	KindTargetEvaluated      Kind = "target_evaluated"      // the decision about a target that a step asked for, without a connection
	KindNetworkChecked       Kind = "network_checked"       // a step stated whether it can get out around the proxy
	KindPolicyLoaded         Kind = "policy_loaded"         // a revision was activated
	KindPolicyRejected       Kind = "policy_rejected"       // a revision of the source was rejected
	KindPolicyReevaluated    Kind = "policy_reevaluated"    // open tunnels and requests were evaluated by a new revision
	KindPolicyApproval       Kind = "policy_approval"       // the approvals of an activated commit's pull request
	KindExceptionExpiring    Kind = "exception_expiring"    // an exception of the policy ends soon
	KindCandidateMismatch    Kind = "candidate_mismatch"    // the candidate policy would have decided differently
	KindWriterStarted        Kind = "writer_started"        // a writer's first event
	KindWriterEnded          Kind = "writer_ended"          // a writer's last event
	KindWriterLost           Kind = "writer_lost"           // another writer terminated without a writer_ended event
	KindSigningKey           Kind = "signing_key"           // a key that signs checkpoints from then on
	KindNameReassigned       Kind = "name_reassigned"       // a name was reassigned to another UUID
	KindAdmin                Kind = "admin"                 // an operator's action
	KindLogForked            Kind = "log_forked"            // the database contains another log than the published one
	KindExport               Kind = "export"                // rows of the log were exported
	KindRetention            Kind = "retention"             // the events of a month were removed
	KindHoldSet              Kind = "hold_set"              // months are kept from retention
	KindHoldLifted           Kind = "hold_lifted"           // the hold was lifted
	KindReconciled           Kind = "reconciled"            // Bitbucket's deployments were compared with the log
	KindDeploymentUnobserved Kind = "deployment_unobserved" // the deploying step did not use Sallyport
	KindSelfTest             Kind = "self_test"             // the result of a self-test
	KindCheckpointsThinned   Kind = "checkpoints_thinned"   // old checkpoints between others of the same hour were removed
	KindRefusalsRepeated     Kind = "refusals_repeated"     // the count of repeats of a recorded refusal, by its decision id
	KindUnrecordedTotals     Kind = "unrecorded_totals"     // the counts of attempts that were refused without an event of their own
	// The rules of one repository were rejected, while the rest of the revision became
	// active: attributes kind, files, in_force.
	KindRepositoryPolicyRejected Kind = "repository_policy_rejected"
	// Rules or tests of a repository ended a worker process: attributes cause, limit.
	KindPolicyWorkerTerminated Kind = "policy_worker_terminated"
	// These four are about webhook deliveries, which they name by their decision id.
	KindWebhookReceived  Kind = "webhook_received"  // the decision about a verified delivery, committed with the delivery itself
	KindWebhookDelivered Kind = "webhook_delivered" // an endpoint accepted the delivery: attributes endpoint, action, attempts
	KindWebhookFailed    Kind = "webhook_failed"    // the first failed attempt, and the end of all attempts: attribute final
	KindWebhookUnqueued  Kind = "webhook_unqueued"  // the event of that id was recorded without its change of the queue: attributes event, cause
	KindSecretAges       Kind = "secret_ages"       // when each secret of an instance was last changed: see [SecretAges]
	// These two report the schema of the log, and the roles that could reach the log.
	KindSchemaAttested Kind = "schema_attested" // the differences between the schema and the one that the program installs
	KindAccessAttested Kind = "access_attested" // which roles can do what to the log, by which path
	// These two explain missing numbers of a writer: attributes writer, first,
	// last (its numbers, both included) and reason.
	KindEventsLost  Kind = "events_lost"  // acknowledged events of a writer are missing in the database
	KindGapDeclared Kind = "gap_declared" // a signed declaration by the owner that events are missing permanently; by DatabaseWriter
)

// DatabaseWriter is the writer of the events that the database itself records: exports,
// retention, holds and declared gaps. It has no start and no end.
const DatabaseWriter = "database"

// Event is one audit record. Its strings may contain any bytes; [Event.Normalise] escapes
// and caps them for the record. A zero field is absent in the record and in the columns. An
// Event is not safe for concurrent use.
type Event struct {
	// Time and kind. The writer of the log sets Writer and WriterSequence.
	Time           time.Time // stamped once, before the first attempt to write
	Kind           Kind
	DecisionID     string // UUIDv7, shared by a decision and its closing event
	Writer         string
	WriterSequence int64 // from 1, without gaps

	// The principal: verified UUIDs, and the names at that time.
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

	// The request.
	Action    string
	Scheme    string
	Host      string
	Port      uint16
	Method    string
	Path      string
	TargetRaw string // as received, if not in the canonical form

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
	// RepositoryRevision is the digest of the earlier policy whose rules of the repository
	// were evaluated; empty: the repository's rules of Revision were evaluated.
	RepositoryRevision string
	Status             int    // the HTTP status of Sallyport's response
	UpstreamProxy      string // the URL of the upstream proxy that was used; empty: none
	DialedAddress      netip.Addr
	Addresses          []netip.Addr // all that were pinned; empty also where that is DialedAddress alone
	BytesSent          int64        // bytes written to the connection to the target; only in a closing event
	BytesReceived      int64        // bytes read from the target and relayed to the client
	Duration           time.Duration
	CloseReason        string
	UpstreamStatus     int

	// Attributes have further values, in this order. Sallyport chooses the names; a value
	// may be any text.
	Attributes []Attribute
	// Input is the canonical JSON that policy evaluated; it must be valid JSON
	// without U+0000.
	Input []byte

	// Source is not part of the record. Its share of the queue is charged for the event.
	Source Source
}

// Source is the repository and step that an event is charged to, in the shares of queues
// and of the journal. The zero Source is the server itself, which has no share.
type Source struct {
	Repository string // UUID; empty: no credential was accepted
	Step       string // UUID, or the client's address where Repository is empty
}

// Repeats is an attribute of a refusal that is read from the log: the number of repeats that
// have no event of their own.
const Repeats = "repeats"

// Relaxed is an attribute of an allow of a tunnel: the keys of the rule that relax the check
// of its ClientHello, ech and no_sni. Without the attribute, nothing is relaxed.
const Relaxed = "relaxed"

// Attribute is one further value of an event.
type Attribute struct {
	Name  string
	Value string
}

// MaxOpen bounds the time from a decision to its closing event: a week, which is the maximum
// of egress.tunnel.max_lifetime, and a day for clock steps. Queries that find a closing event
// by its decision, or a decision by its closing event, rely on it.
const MaxOpen = 8 * 24 * time.Hour

// IsClosing reports whether the event closes a tunnel or request. Its byte counts and
// duration are then present even if they are zero. A closing event does not repeat the
// fields of its decision, which has the same DecisionID. It has reason, rule, message and
// revision only if a later decision closed the tunnel or request.
func (e *Event) IsClosing() bool {
	return e.Kind == KindTunnelClosed || e.Kind == KindRequestClosed
}
