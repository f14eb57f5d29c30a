// Package rego loads policy sets written in Rego, tests them, and evaluates
// them with OPA.
//
// [Load] turns a [policy.Snapshot] into a [Set], or says everything that is
// wrong with it. An [Engine] holds the set that decides at the moment and lets
// another take its place without a gap. [Check] and [Test] are the same loader
// without a set at the end, for the policy author.
//
// The organization's policy and each repository's are compiled apart from one
// another, each with the shipped library: what a repository's files define or
// read cannot reach anything else, whatever the loader's checks may have
// missed. The two are combined here, in Go.
package rego

import (
	"context"

	"github.com/sallyport/sallyport/policy"
)

// Load checks, compiles and tests a policy. The error is of type [Errors] where
// the policy is at fault, and holds all of them. Loading is as expensive as the
// policy is long; evaluating the set afterwards is not. Safe for concurrent use.
func Load(ctx context.Context, snapshot *policy.Snapshot, options Options) (*Set, error) {
	l := newLoader(snapshot, options)
	set, err := l.load(ctx)
	if err != nil {
		return nil, err
	}
	return set, nil
}

// Check says what is wrong with a policy and what deserves a look, and runs no
// tests. The error is about the checking itself and never about the policy.
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
