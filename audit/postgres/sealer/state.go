package sealer

import (
	"errors"
	"time"

	auditpg "github.com/sallyport/sallyport/audit/postgres"
)

// Status is a snapshot of a sealer's state.
type Status struct {
	Size   int64     // leaves under the latest checkpoint
	Time   time.Time // of the latest checkpoint
	Sealed int64     // leaves that this instance added
	// LastSuccess is when a pass last ended with nothing left to seal that this
	// instance knows of, or with a checkpoint. Zero: no pass has.
	LastSuccess time.Time
	// UnsealedSince is since when events wait to be sealed, because no pass has
	// reached them or a number before them is missing. After a pass that
	// failed it is zero only if the database shows that none wait: what cannot be
	// determined counts as waiting. Zero: none do.
	UnsealedSince time.Time
	Err           error    // of the latest pass; nil: it succeeded
	Findings      []string // writers with a number that is missing or there twice: they cannot be sealed any further
	Blocked       int64    // about how many of their events wait behind that
	Invalid       []string // checkpoints of the database that are newer than the latest one that holds, and do not hold
	Places        []PlaceStatus
}

// Reason classifies Err as one of [Failures]; "": sealing does not fail.
func (s Status) Reason() string {
	if s.Err == nil {
		return ""
	}
	for _, f := range sealFailures {
		if f.err == nil || errors.Is(s.Err, f.err) {
			return f.reason
		}
	}
	return ""
}

// sealFailures ends with the reason for every other error.
var sealFailures = []struct {
	reason string
	err    error
}{
	{"no_key", ErrNoKey}, {"behind", ErrBehind}, {"forked", ErrForked}, {"damaged", auditpg.ErrDamaged}, {"no_progress", ErrNoProgress}, {"no_privilege", ErrMayNotSeal}, {"database", nil},
}

// Failures lists the reasons for which sealing fails: a closed vocabulary.
// "database" is every error of the database, one that does not answer included.
func Failures() []string {
	reasons := make([]string, len(sealFailures))
	for i, f := range sealFailures {
		reasons[i] = f.reason
	}
	return reasons
}
