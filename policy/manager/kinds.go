package manager

import (
	"errors"

	"github.com/sallyport/sallyport/policy/rego"
	"github.com/sallyport/sallyport/policy/source"
)

// RejectionKind is the kind of fault for which a state of the policy was rejected: a closed
// vocabulary, for the event and the metric.
type RejectionKind string

// The kinds.
const (
	rejectedUnreachable RejectionKind = "unreachable"       // the source does not answer
	rejectedTooLarge    RejectionKind = "too_large"         // it exceeds a limit
	rejectedTree        RejectionKind = "invalid_tree"      // it is not a policy tree
	rejectedUnsigned    RejectionKind = "unsigned"          // no listed key has signed the commit
	rejectedRewound     RejectionKind = "rewound"           // the commit does not follow the active one
	rejectedHistory     RejectionKind = "malformed_history" // an object of its history is malformed
	rejectedLoad        RejectionKind = "does_not_load"     // it does not parse, compile or pass the checks
	rejectedTests       RejectionKind = "tests_failed"      // its own tests fail
	rejectedProbe       RejectionKind = "probe_failed"      // it cannot decide recent inputs
	rejectedUnrecorded  RejectionKind = "unrecorded"        // its content cannot be recorded
	rejectedTooOld      RejectionKind = "too_old"           // the last good one exceeds policy.max_age
	rejectedOther       RejectionKind = "other"
)

// RejectionKinds lists the kinds.
var RejectionKinds = []RejectionKind{rejectedUnreachable, rejectedTooLarge, rejectedTree, rejectedUnsigned, rejectedRewound, rejectedHistory,
	rejectedLoad, rejectedTests, rejectedProbe, rejectedUnrecorded, rejectedTooOld, rejectedOther}

// probeError is an error of [rego.Engine.Prepare].
type probeError struct{ error }

func (e probeError) Unwrap() error { return e.error }

// unrecordedError is an error of the log: a revision cannot be kept in it.
type unrecordedError struct{ error }

func (e unrecordedError) Unwrap() error { return e.error }

func asProbeError(err error) error {
	if err == nil {
		return nil
	}
	return probeError{err}
}

func kindOf(err error) RejectionKind {
	if r, ok := errors.AsType[*source.Refusal](err); ok {
		return RejectionKind(r.Kind)
	}
	if _, ok := errors.AsType[probeError](err); ok {
		return rejectedProbe
	}
	if _, ok := errors.AsType[unrecordedError](err); ok {
		return rejectedUnrecorded
	}
	if _, ok := errors.AsType[rego.TestsFailed](err); ok {
		return rejectedTests
	}
	if _, ok := errors.AsType[rego.Errors](err); ok {
		return rejectedLoad
	}
	return rejectedOther
}
