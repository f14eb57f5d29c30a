// Package policy defines the types of a policy decision: whether a principal may do what
// it requests.
//
// A [Request] goes in, a [Decision] comes out. The packages that decide are in folders
// named after their technology. A denial is a value and never an error; an error means
// that no decision could be made, and the caller denies.
package policy

import (
	"net/netip"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/destination"
)

// Action is what a principal wants to do with a target.
type Action string

// The actions.
const (
	Connect Action = "connect" // open a tunnel (RFC 9110 section 9.3.6)
	Forward Action = "request" // send one HTTP request that we can read
)

// Verdict is deny or allow. The zero value is deny.
type Verdict uint8

// The verdicts.
const (
	Deny Verdict = iota
	Allow
)

func (v Verdict) String() string {
	if v == Allow {
		return "allow"
	}
	return "deny"
}

// Mode is whether a denial is enforced. The zero value is enforce.
type Mode uint8

// The modes.
const (
	Enforce Mode = iota
	Report       // the organization lets it pass for now
)

func (m Mode) String() string {
	if m == Report {
		return "report"
	}
	return "enforce"
}

// Protocol is what a tunnel may carry. The zero value is TLS whose server
// name is the target.
type Protocol uint8

// The protocols.
const (
	ProtocolTLS Protocol = iota
	ProtocolAny
)

func (p Protocol) String() string {
	if p == ProtocolAny {
		return "any"
	}
	return "tls"
}

// Request is one request for a decision. The policy must not change it.
type Request struct {
	Principal     *identity.Principal // never nil
	Action        Action
	Target        destination.Target
	HTTP          *HTTPRequest // nil where the request cannot be read
	ClientAddress netip.Addr
	Time          time.Time // the decision's time, UTC, whole microseconds
}

// HTTPRequest is the readable part of an HTTP request.
type HTTPRequest struct {
	Method  string
	Path    string            // without the query
	Headers map[string]string // lower-case names of the configured allow-list, never credentials or cookies
}

// Revision is the exact policy that decided.
type Revision struct {
	Digest string // "sha256:" and 64 hexadecimal digits of the policy's content
	Commit string // the Git commit; empty where the source is a directory
}

// Limits bound a tunnel or a request. A zero field is not a limit of its own: the
// configuration's limits always hold as well.
type Limits struct {
	Lifetime time.Duration // from the decision to the forced end
	Idle     time.Duration // without a byte in either direction
	Sent     int64         // bytes_sent: bytes on the connection to the target, an HTTP head and framing included
	Received int64         // bytes_received: bytes from it, counted in the same way

	// Bytes of all tunnels and requests of the step together, of those whose
	// decision bounds them so.
	StepSent, StepReceived int64
}

// Decision is the whole record of one evaluation. The zero value denies.
type Decision struct {
	Verdict   Verdict
	Mode      Mode
	WouldDeny bool // in report mode: passed only for that
	Reason    Reason
	Rule      string   // the id of the rule that decided; empty where none did
	Rules     []string // every rule that matched, the deciding ones first
	Message   string   // the policy author's word to the client
	Revision  Revision
	// RepositoryRevision is the earlier revision whose rules of the repository took
	// part; the zero value: those of Revision did.
	RepositoryRevision Revision
	// Activation numbers the activations of policies in this process, from 1; 0: unknown.
	// A revision whose repositories' rules changed is activated again.
	Activation uint64
	// Notice is what the requester should know of the rules that decided, in one line.
	Notice string
	// Exceptions are those of the policy's documents that the policy found for the
	// request: they name its repository and target, and were in force at its time.
	// Rules names the rules that allowed it.
	Exceptions []AppliedException
	Protocol   Protocol
	Address    bool // an IP literal is allowed as the target
	Limits     Limits
	Expires    time.Time     // zero: the allow has no end of its own
	Input      []byte        // the canonical JSON that was evaluated
	Duration   time.Duration // how long the evaluation took
}

// AppliedException is an exception of a policy's documents that applied to a request.
type AppliedException struct {
	Path       string // where it stands: data.exceptions.list[0]; empty: a rule made it
	Owner      string
	Ticket     string
	Repository string
	Hosts      []string
	Until      time.Time // zero: none that can be read
}
