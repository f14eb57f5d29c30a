package manager

// RefusalKind is what sort of fault kept a state of the policy from deciding: a
// closed vocabulary, for the event and the metric.
type RefusalKind string

// The kinds.
const (
	refusedUnreachable RefusalKind = "unreachable"       // the source does not answer
	refusedTooLarge    RefusalKind = "too_large"         // it offers more than is taken
	refusedTree        RefusalKind = "invalid_tree"      // it offers what is not a policy tree
	refusedUnsigned    RefusalKind = "unsigned"          // no listed key has signed the commit
	refusedRewound     RefusalKind = "rewound"           // the commit does not follow on the one that decides
	refusedHistory     RefusalKind = "malformed_history" // an object of its history is malformed
	refusedLoad        RefusalKind = "does_not_load"     // it does not parse, compile or pass the checks
	refusedTests       RefusalKind = "tests_failed"      // its own tests say no
	refusedProbe       RefusalKind = "probe_failed"      // it cannot decide what was asked lately
	refusedUnrecorded  RefusalKind = "unrecorded"        // its content cannot be kept
	refusedTooOld      RefusalKind = "too_old"           // the last good one is older than it may be
	refusedUnknown     RefusalKind = "other"
)

var RefusalKinds = []RefusalKind{refusedUnreachable, refusedTooLarge, refusedTree, refusedUnsigned, refusedRewound, refusedHistory,
	refusedLoad, refusedTests, refusedProbe, refusedUnrecorded, refusedTooOld, refusedUnknown}
