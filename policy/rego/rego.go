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
	"fmt"
	"time"

	"github.com/sallyport/sallyport/policy"
)

// DefaultDeadline bounds an evaluation where [Options] says nothing.
const DefaultDeadline = 50 * time.Millisecond

// Options say how a policy is loaded and evaluated.
type Options struct {
	// Names says that the names of workspaces, repositories and deployments are
	// known, because the REST API is configured. Without it a policy that reads
	// one does not load, and repositories are known by their UUIDs.
	Names bool
	// Repositories are the full names of the repositories that there are, where they
	// are known: a rule or document with another name is warned of. nil: not known.
	Repositories []string
	// Deadline bounds one evaluation; zero is DefaultDeadline.
	Deadline time.Duration
	// SkipTests loads without running the set's own tests: for a revision that
	// has passed them before and is only evaluated again.
	SkipTests bool
	// Previous is a set that was loaded before, with the same options. What is the
	// same in it is not checked and tested again. It may be nil.
	Previous *Set
	// OnFailure says the effect on a repository whose policy fails.
	OnFailure RepositoryFailure
	// Fallback is where the rules of a repository are taken from whose policy fails and
	// which Previous has no rules of. It may be nil.
	Fallback *Set
	// Kept are the repositories whose rules of an earlier revision decided in the process
	// before this one. [Resume] and [Recall] take them.
	Kept []policy.KeptRepository
	// RetryRejected checks again what Previous has rejected, although it is the same.
	RetryRejected bool
	// Defer leaves the policies of repositories that have to be checked unchecked:
	// [Set.Pending] lists them. Each repository keeps its rules of Previous or Fallback, or
	// is denied, until [Engine.Check] and [Set.Settle].
	Defer bool
	// Beside says that other work continues beside the loading: one processor is left
	// to it, where there are several.
	Beside bool
	// Passed says that this very content has passed all checks and tests before, of
	// this version of the program: nothing but the organization's rules is compiled,
	// and a repository's when it is asked about.
	Passed bool
	// Workers execute what the policy's files say. nil: a pool of this process with
	// default limits, for a program that calls [ServeWorker] first.
	Workers Workers
	// Background evaluates a repository's policy while no client's evaluation waits:
	// for a policy that decides nothing. A repository whose policy fails keeps the rules
	// of Fallback, and none of Previous.
	Background bool
	// Recorded says that the snapshot is one that [Set.Snapshot] returned: the
	// library in it is used instead of the one that this program ships.
	Recorded bool
}

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
	l.lintMisnamed()
	for _, u := range l.units() {
		if err := l.lintApart(ctx, u); err != nil {
			return nil, nil, err
		}
	}
	return l.errors.sorted(), l.warnings.sorted(), nil
}

// lintUnits says what in the loader's units deserves a look.
func (l *loader) lintUnits() {
	l.lintFormat()
	l.lintExpired(time.Now())
	l.lintSlow()
}

// recovered runs f and turns a panic into an error that says during what.
func recovered(what string, f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s panicked: %v", what, p)
		}
	}()
	return f()
}
