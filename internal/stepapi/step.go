// Package stepapi has the JSON that Sallyport and sallyport-step exchange: what GET /step
// returns, and the result of a network check that a step posts.
//
// A step reads only its own data, and authenticates with its token as for a CONNECT. The
// package imports only the standard library.
package stepapi

import "time"

// The resources of the server. Each is on every listener of the proxy.
const (
	// PathStep returns a [Step]. With one or more query parameters named [ParameterTo], it
	// returns [Evaluations].
	PathStep = "/step"
	// PathNetworkCheck accepts a [NetworkCheck] by POST, and responds 204 once the audit log
	// has it.
	PathNetworkCheck = "/step/network-check"
	// PathBinaries is the prefix of the builds of sallyport-step: a name such as
	// linux-amd64, and the name with ".sha256". They need no credential.
	PathBinaries = "/sallyport-step/"
)

// The query parameters of [PathStep].
const (
	ParameterFormat = "format" // FormatJSON or FormatText; without it, the Accept field selects
	ParameterTo     = "to"     // a target as host:port, at most MaxTargets times
	FormatJSON      = "json"
	FormatText      = "text"
)

// Bounds on what the server returns.
const (
	MaxEntries  = 100     // entries of a Step, and again targets with allowed requests
	MaxTargets  = 32      // targets of one evaluation
	MaxResponse = 1 << 20 // bytes of a JSON response
)

// The fields of a response in which Sallyport explains a refusal. Proxy-Status (RFC 9209)
// has the same reason as its details parameter.
const (
	FieldReason   = "Sallyport-Reason"
	FieldDecision = "Sallyport-Decision"
	FieldRule     = "Sallyport-Rule"
)

// The modes of a policy.
const (
	ModeEnforce = "enforce"
	ModeReport  = "report"
)

// Step is what the server knows of the step that asks.
type Step struct {
	Principal Principal `json:"principal"`
	// TokenExpires is when the presented token expires.
	TokenExpires time.Time `json:"token_expires"`
	// Mode is ModeEnforce or ModeReport, of the active policy.
	Mode     string   `json:"mode"`
	Revision Revision `json:"revision"`
	Requests Requests `json:"requests"`
	// Entries are in the order of time, the latest last.
	Entries []Entry `json:"entries"`
	// More is true if there are entries besides those listed, which are the latest.
	More   bool   `json:"more"`
	Limits Limits `json:"limits"`
}

// Principal is the verified identity of the step. UUIDs are lower-case, without braces.
// Names are empty where they are unknown.
type Principal struct {
	Issuer         string `json:"issuer"`
	WorkspaceUUID  string `json:"workspace_uuid"`
	Workspace      string `json:"workspace,omitempty"`
	RepositoryUUID string `json:"repository_uuid"`
	Repository     string `json:"repository,omitempty"` // workspace/repository
	DeploymentUUID string `json:"deployment_uuid,omitempty"`
	Deployment     string `json:"deployment,omitempty"` // the slug of the deployment environment
	DeploymentType string `json:"deployment_type,omitempty"`
	PipelineUUID   string `json:"pipeline_uuid"`
	StepUUID       string `json:"step_uuid"`
	Branch         string `json:"branch,omitempty"`
}

// Revision names the active policy.
type Revision struct {
	Digest string `json:"digest,omitempty"`
	Commit string `json:"commit,omitempty"` // the Git commit, where there is one
}

// Requests counts the step's requests of the last two days. A tunnel is one request.
type Requests struct {
	Allowed    int64 `json:"allowed"`     // would_deny included
	Denied     int64 `json:"denied"`      // refused for any reason, repeats included
	WouldDeny  int64 `json:"would_deny"`  // allowed only because of report mode
	Closed     int64 `json:"closed"`      // tunnels and requests that Sallyport closed
	WouldClose int64 `json:"would_close"` // tunnels that enforce mode would have closed
	// AtLeast is true if the step made more requests than the server counts; the counts
	// are then of its latest.
	AtLeast bool `json:"at_least,omitempty"`
}

// The kinds of an entry.
const (
	KindAllowed    = "allowed"     // a target with requests that were allowed
	KindRefused    = "refused"     // a request that was refused before a byte was relayed
	KindClosed     = "closed"      // a tunnel or request that Sallyport closed
	KindWouldDeny  = "would_deny"  // a target with requests that were allowed only because of report mode
	KindWouldClose = "would_close" // a tunnel that enforce mode would have closed
)

// Entry is one refusal or close, or all allowed requests to one target by one rule.
type Entry struct {
	// Time is when it was decided or closed; of several requests, the time of the latest.
	Time time.Time `json:"time"`
	Kind string    `json:"kind"`
	// Status is the HTTP status of a refusal.
	Status int `json:"status,omitempty"`
	// Reason is why it was allowed or refused: a reason of docs/reasons.md.
	Reason string `json:"reason,omitempty"`
	// CloseReason is why the tunnel or request was, or would be, closed.
	CloseReason string `json:"close_reason,omitempty"`
	Message     string `json:"message,omitempty"`
	Rule        string `json:"rule,omitempty"`
	DecisionID  string `json:"decision_id"`
	Action      string `json:"action"` // connect or request
	Target      string `json:"target"` // host:port
	// Next is what to do about it, in one sentence.
	Next string `json:"next,omitempty"`
	// Repeats is how often the same happened again after the first time.
	Repeats       int64 `json:"repeats,omitempty"`
	BytesSent     int64 `json:"bytes_sent,omitempty"`
	BytesReceived int64 `json:"bytes_received,omitempty"`
}

// IsProblem reports whether the entry describes a request that failed, or would fail in
// enforce mode.
func (e *Entry) IsProblem() bool { return e.Kind != KindAllowed }

// Limits are the limits of the instance that apply to the step. 0: no limit.
type Limits struct {
	OpenTunnels       int   `json:"open_tunnels"`        // tunnels and requests in progress at once
	RequestsPerSecond int   `json:"requests_per_second"` // refused requests included
	ConcurrentDials   int   `json:"concurrent_dials"`
	HeaderBytes       int64 `json:"header_bytes"` // of the heads of requests in progress
}
