package destination

import (
	"fmt"
	"strconv"
	"strings"
)

// Problem is what is wrong with a target. The set is closed; the values are
// stable and may be used as labels. "" is not a problem.
type Problem string

// The problems, in the order in which they are usually met.
const (
	// ProblemForm: not the form that belongs here (a path in a CONNECT, no
	// scheme in an absolute-form target).
	ProblemForm Problem = "form"
	// ProblemScheme: an absolute-form target with a scheme other than http.
	ProblemScheme Problem = "scheme"
	// ProblemUserinfo: user information before an @.
	ProblemUserinfo Problem = "userinfo"
	// ProblemByte: a byte that cannot stand where it does: a control byte, a
	// space, a percent-escape in a host, a broken percent-escape in a path.
	ProblemByte Problem = "byte"
	// ProblemNotASCII: a byte above 0x7f. Names are written in A-labels.
	ProblemNotASCII Problem = "not_ascii"
	// ProblemHost: the host is empty, too long or has a label that no host
	// name has.
	ProblemHost Problem = "host"
	// ProblemAddress: an IP literal in a spelling that is not the canonical one.
	ProblemAddress Problem = "address"
	// ProblemPort: the port is missing, empty, out of range or oddly written.
	ProblemPort Problem = "port"
	// ProblemPath: a path with dot segments, or a fragment.
	ProblemPath Problem = "path"
)

// Error is why a target was refused.
type Error struct {
	// Problem is the kind of mistake.
	Problem Problem
	// Detail is what is wrong and what to write instead. It is printable
	// ASCII of bounded length whatever the input was, holds no user
	// information, and may be shown to the client.
	Detail string
}

// Error returns the detail, prefixed.
func (e *Error) Error() string { return "target: " + e.Detail }

// problem makes an *Error as an error.
func problem(p Problem, format string, args ...any) error {
	return &Error{Problem: p, Detail: fmt.Sprintf(format, args...)}
}

// userinfo refuses user information without repeating it: what stands before
// an @ is a password more often than not.
func userinfo() error {
	return problem(ProblemUserinfo, "the target carries user information before an @: leave it out")
}

// quotedBytes is how much of an input a message repeats.
const quotedBytes = 72

// quote makes outside bytes fit to be shown: printable ASCII, one line, short,
// and without a query, which often holds a secret: details are logged.
func quote(s string) string {
	if i := strings.IndexAny(s, "?#"); i > 0 {
		return quote(s[:i]) + "..."
	}
	if len(s) <= quotedBytes {
		return strconv.QuoteToASCII(s)
	}
	return strconv.QuoteToASCII(s[:quotedBytes]) + "..."
}
