// Package rego loads policy sets written in Rego, tests them, and evaluates them with OPA.
//
// [Load] turns a [policy.Snapshot] into a [Set], or reports all its faults. An [Engine]
// holds the active set and replaces it without a gap. [Check] and [Test] are the same
// loader without a set at the end, for policy authors.
//
// The organization's policy and each repository's are compiled separately, each with the
// shipped library: the files of a repository cannot define or read anything else, even if
// a check of the loader misses it. The results are combined in Go, by rules that are final
// for the organization. Repositories' policies are checked, tested, compiled and evaluated
// in worker processes.
//
// The files refer to each other in one direction: types and helpers, the client of the
// workers, the loader with its checks, sets, and then the entry points.
package rego

import (
	"context"

	"github.com/sallyport/sallyport/policy"
)

// Load checks, compiles and tests a policy. The error is of type [Errors] where the policy
// is at fault, and holds all faults; other errors are not the policy's. The duration grows
// with the size of the policy. Safe for concurrent use.
func Load(ctx context.Context, snapshot *policy.Snapshot, options Options) (*Set, error) {
	l := newLoader(snapshot, options)
	set, err := l.load(ctx)
	if err != nil {
		return nil, err
	}
	return set, nil
}

// Check returns the faults of a policy and its warnings, both sorted, and runs no tests.
// The error is of the check itself and never of the policy.
func Check(ctx context.Context, snapshot *policy.Snapshot, options Options) (problems, warnings Errors, err error) {
	options.SkipTests = true
	l := newLoader(snapshot, options)
	if _, err := l.load(ctx); err != nil && len(l.errors) == 0 {
		return nil, nil, err
	}
	l.warnings = append(l.warnings, l.ended...)
	l.lintUnread()
	l.lintNothing()
	l.lintFolderNames()
	for _, u := range l.units() {
		if err := l.lintInWorker(ctx, u); err != nil {
			return nil, nil, err
		}
	}
	return l.errors.sorted(), l.warnings.sorted(), nil
}
