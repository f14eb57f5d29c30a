package manager

import (
	"errors"

	"github.com/sallyport/sallyport/policy/rego"
	"github.com/sallyport/sallyport/policy/source"
)

// RefusalKind is the kind of fault for which a state of the policy was rejected: a closed
// vocabulary, for the event and the metric.
type RefusalKind string

// The kinds.
const (
	refusedUnreachable RefusalKind = "unreachable"       // the source does not answer
	refusedTooLarge    RefusalKind = "too_large"         // it exceeds a limit
	refusedTree        RefusalKind = "invalid_tree"      // it is not a policy tree
	refusedUnsigned    RefusalKind = "unsigned"          // no listed key has signed the commit
	refusedRewound     RefusalKind = "rewound"           // the commit does not follow the active one
	refusedHistory     RefusalKind = "malformed_history" // an object of its history is malformed
	refusedLoad        RefusalKind = "does_not_load"     // it does not parse, compile or pass the checks
	refusedTests       RefusalKind = "tests_failed"      // its own tests fail
	refusedProbe       RefusalKind = "probe_failed"      // it cannot decide recent inputs
	refusedUnrecorded  RefusalKind = "unrecorded"        // its content cannot be recorded
	refusedTooOld      RefusalKind = "too_old"           // the last good one exceeds policy.max_age
	refusedUnknown     RefusalKind = "other"
)

// RefusalKinds lists the kinds.
var RefusalKinds = []RefusalKind{refusedUnreachable, refusedTooLarge, refusedTree, refusedUnsigned, refusedRewound, refusedHistory,
	refusedLoad, refusedTests, refusedProbe, refusedUnrecorded, refusedTooOld, refusedUnknown}

// probeError is an error of [rego.Engine.Prepare].
type probeError struct{ error }

func (e probeError) Unwrap() error { return e.error }

// unrecordedError is an error of the log: a revision cannot be kept in it.
type unrecordedError struct{ error }

func (e unrecordedError) Unwrap() error { return e.error }

func probed(err error) error {
	if err == nil {
		return nil
	}
	return probeError{err}
}

func kindOf(err error) RefusalKind {
	if r, ok := errors.AsType[*source.Refusal](err); ok {
		return RefusalKind(r.Kind)
	}
	if _, ok := errors.AsType[probeError](err); ok {
		return refusedProbe
	}
	if _, ok := errors.AsType[unrecordedError](err); ok {
		return refusedUnrecorded
	}
	if _, ok := errors.AsType[rego.TestsFailed](err); ok {
		return refusedTests
	}
	if _, ok := errors.AsType[rego.Errors](err); ok {
		return refusedLoad
	}
	return refusedUnknown
}
