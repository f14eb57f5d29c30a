package rego

import (
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
	// SpareProcessor says that other work continues beside the loading: one processor is left
	// to it, where there are several.
	SpareProcessor bool
	// Prechecked says that this very content has passed all checks and tests before, of
	// this version of the program: nothing but the organization's rules is compiled,
	// and a repository's when it is asked about.
	Prechecked bool
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

// RepositoryFailure says the effect on a revision in which the policy of a
// repository fails: its files, a check, its tests, or what was asked lately. An error
// in the organization's own files always rejects the revision.
type RepositoryFailure uint8

// The effect on it.
const (
	// RejectRevision rejects the whole revision.
	RejectRevision RepositoryFailure = iota
	// KeepPrevious keeps that repository's rules of the latest revision in which they
	// passed, and denies the repository everything if there are none.
	KeepPrevious
	// DenyRepository denies the repository everything.
	DenyRepository
)
