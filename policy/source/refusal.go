package source

import (
	"context"
	"errors"
)

// Kind is what sort of fault kept a source from offering a policy: a closed
// vocabulary.
type Kind string

// The kinds.
const (
	Unreachable Kind = "unreachable"  // it does not answer, or not as it should
	TooLarge    Kind = "too_large"    // what it offers exceeds a limit
	InvalidTree Kind = "invalid_tree" // what it offers is not a policy tree
	Unsigned    Kind = "unsigned"     // no listed key has signed the commit
	Rewound     Kind = "rewound"      // the commit does not follow on the one that decides
	// MalformedHistory: an object of the history is not as Git writes it.
	MalformedHistory Kind = "malformed_history"
)

// Refusal is the error of a source: why there is nothing to load.
type Refusal struct {
	Kind   Kind
	Commit string // the one that was offered, where it came that far
	Err    error
}

func (r *Refusal) Error() string { return r.Err.Error() }

// Unwrap returns the fault itself.
func (r *Refusal) Unwrap() error { return r.Err }

// refuse makes a Refusal of a fault in reading a tree. That the context ended is
// no fault of the source.
func refuse(ctx context.Context, commit string, err error) error {
	if ctx.Err() != nil {
		return err
	}
	kind := InvalidTree
	if _, large := errors.AsType[tooLarge](err); large {
		kind = TooLarge
	}
	return &Refusal{Kind: kind, Commit: commit, Err: err}
}
