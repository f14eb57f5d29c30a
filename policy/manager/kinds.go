package manager

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
