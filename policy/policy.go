// Package policy defines the types of a policy decision: whether a principal's request is
// allowed.
//
// An engine evaluates a [Request] and returns a [Decision]. The engines are in folders named
// after their technology. A denial is a value and never an error. An error means that no
// decision could be made, and the caller denies.
package policy

import (
	"net/netip"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/destination"
)

// Action is the operation that a principal requests on a target.
type Action string

// The actions.
const (
	Connect Action = "connect" // open a tunnel (RFC 9110 section 9.3.6)
	Forward Action = "request" // send one HTTP request, which the proxy can read
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

// Mode defines whether a denial is enforced. The zero value is Enforce.
type Mode uint8

// The modes.
const (
	Enforce Mode = iota
	Report       // a denied request passes, and is recorded as would_deny
)

func (m Mode) String() string {
	if m == Report {
		return "report"
	}
	return "enforce"
}

// Protocol is the protocol that a tunnel may carry. The zero value is TLS with the target
// as its server name.
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
	HTTP          *HTTPRequest // nil if the request cannot be read (CONNECT)
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
	Digest string // of the policy's content: "sha256:" and 64 hexadecimal digits
	Commit string // the Git commit; empty where the source is a directory
}

// Limits bound a tunnel or a request. A zero field sets no limit. The limits of the
// configuration always apply as well.
type Limits struct {
	Lifetime time.Duration // from the decision to the forced end
	Idle     time.Duration // without a byte in either direction
	Sent     int64         // bytes_sent: bytes on the connection to the target, an HTTP head and framing included
	Received int64         // bytes_received: bytes from the target, counted in the same way

	// step_bytes_sent and step_bytes_received: the sum over all tunnels and requests of
	// the step whose decision has such a limit.
	StepSent, StepReceived int64
}

// Decision is the result of one evaluation. The zero value denies.
type Decision struct {
	Verdict   Verdict
	Mode      Mode
	WouldDeny bool // allowed only because of report mode
	Reason    Reason
	Rule      string   // the id of the rule that decided; empty where none did
	Rules     []string // every rule that matched, the deciding ones first
	Message   string   // the policy author's message to the client
	Revision  Revision
	// RepositoryRevision is the earlier revision whose rules of the repository were
	// evaluated. Zero: the repository's rules of Revision were evaluated.
	RepositoryRevision Revision
	// Activation is the number of the policy's activation in this process, from 1; 0:
	// unknown. A revision is activated again when its rules of a repository change.
	Activation uint64
	// Notice is one line for the requester about the rules that decided.
	Notice string
	// Exceptions are the exceptions in the policy's documents that applied to the request.
	// Each names its repository and target, and was in force at its time. Rules names the
	// rules that allowed the request.
	Exceptions []AppliedException
	Protocol   Protocol
	Address    bool // an IP literal is allowed as the target
	// ECH accepts a ClientHello with the extension encrypted_client_hello (RFC 9849); its
	// outer server name must still be the target.
	ECH bool
	// NoSNI accepts a ClientHello without a server name, and never one with another name.
	NoSNI    bool
	Limits   Limits
	Expires  time.Time     // zero: the allow has no end of its own
	Input    []byte        // the canonical JSON that was evaluated
	Duration time.Duration // of the evaluation
}

// AppliedException is an exception of a policy's documents that applied to a request.
type AppliedException struct {
	Path       string // its place in the documents: data.exceptions.list[0]; empty: a rule created it
	Owner      string
	Ticket     string
	Repository string
	Hosts      []string
	Until      time.Time // zero: missing or not a valid time
}
