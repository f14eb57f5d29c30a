// Package rego loads, tests and evaluates policies in Rego with OPA.
//
// [Load] turns a [policy.Snapshot] into a [Set], or reports all its faults. An [Engine]
// holds the active set and replaces it atomically. [Check] and [Test] use the same loader
// for policy authors, and return no set.
//
// The organization's policy and each repository's policy are compiled separately, each
// with the shipped library. The files of a repository therefore cannot define or read
// anything else, even if a check of the loader misses it. The results are combined in Go,
// and the organization's deny is final. Repositories' policies are checked, tested,
// compiled and evaluated in worker processes.
//
// The files depend on each other in one direction. The order is: types and helpers, the
// client of the workers, the loader with its checks, sets, and the entry points.
package rego

import (
	"context"

	"github.com/sallyport/sallyport/policy"
)

// Load checks, compiles and tests a policy. If the policy has faults, the error is of type
// [Errors] and has all of them. Other errors are not caused by the policy. The duration
// grows with the size of the policy. Load is safe for concurrent use.
func Load(ctx context.Context, snapshot *policy.Snapshot, options Options) (*Set, error) {
	l := newLoader(snapshot, options)
	set, err := l.load(ctx)
	if err != nil {
		return nil, err
	}
	return set, nil
}

// Check returns the faults of a policy and its warnings, both sorted, and runs no tests.
// err is a failure of the check itself, never a fault of the policy.
func Check(ctx context.Context, snapshot *policy.Snapshot, options Options) (problems, warnings Errors, err error) {
	options.SkipTests = true
	l := newLoader(snapshot, options)
	if _, err := l.load(ctx); err != nil && len(l.errors) == 0 {
		return nil, nil, err
	}
	l.warnings = append(l.warnings, l.ended...)
	l.lintUnread()
	l.lintNothing()
	l.lintIgnoredDenies()
	l.lintFolderNames()
	for _, u := range l.units() {
		if err := l.lintInWorker(ctx, u); err != nil {
			return nil, nil, err
		}
	}
	return l.errors.sorted(), l.warnings.sorted(), nil
}
