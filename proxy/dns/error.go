package dns

import (
	"fmt"
	"strconv"
)

// Kind is the reason why a name has no addresses. The set is closed; the values are
// stable and may be used as labels and shown to clients.
type Kind string

// The kinds.
const (
	// KindNotFound: the name does not exist (NXDOMAIN).
	KindNotFound Kind = "name_not_found"
	// KindNoAddress: the name exists and has neither A nor AAAA (NODATA).
	KindNoAddress Kind = "no_address"
	// KindTimeout: no server answered in time, or the caller's deadline came
	// first.
	KindTimeout Kind = "timeout"
	// KindServerFailure: the servers failed (SERVFAIL and the like), sent a malformed
	// response, or could not be reached.
	KindServerFailure Kind = "server_failure"
	// KindRefused: the servers do not answer us (REFUSED).
	KindRefused Kind = "refused"
	// KindOverloaded: too many lookups are under way, of the step, the repository or
	// all; the error wraps an *fair.OverError, and nothing was asked.
	KindOverloaded Kind = "overloaded"
	// KindCanceled: the caller went away.
	KindCanceled Kind = "canceled"
	// KindInvalid: the host is not a canonical name; nothing was asked.
	KindInvalid Kind = "invalid_name"
)

// texts are what clients read.
var texts = map[Kind]string{
	KindNotFound:      "the name does not exist",
	KindNoAddress:     "the name has no address",
	KindTimeout:       "the name could not be resolved in time",
	KindServerFailure: "the name could not be resolved: the resolver failed",
	KindRefused:       "the name could not be resolved: the resolver refused",
	KindOverloaded:    "the name could not be resolved: too many lookups are under way",
	KindCanceled:      "the lookup was given up",
	KindInvalid:       "the name is not valid",
}

// Error is why [Resolver.Resolve] found nothing.
type Error struct {
	Kind Kind
	// Host is the name that was asked for.
	Host string
	// Err is the cause, for the log. It may name our resolvers and other
	// internal addresses. May be nil.
	Err error
}

// Error is for the log: it includes the cause. Clients read [Error.Kind] or
// [Error.ClientText].
func (e *Error) Error() string {
	// Quoted, for KindInvalid has a host of any bytes.
	text := fmt.Sprintf("resolve %s: %s", strconv.QuoteToASCII(e.Host[:min(len(e.Host), 256)]), texts[e.Kind])
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// ClientText is one sentence that may be shown to anybody: it depends on the
// kind alone.
func (e *Error) ClientText() string { return texts[e.Kind] }

// Timeout reports whether time ran out, as with [net.Error].
func (e *Error) Timeout() bool { return e.Kind == KindTimeout }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
