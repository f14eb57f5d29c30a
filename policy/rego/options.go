package rego

import (
	"time"

	"github.com/sallyport/sallyport/policy"
)

// DefaultDeadline bounds an evaluation if [Options.Deadline] is zero.
const DefaultDeadline = 50 * time.Millisecond

// Options configure the loading and the evaluation of a policy. The zero value loads a
// policy that reads no names.
type Options struct {
	// Names is set if the names of workspaces, repositories and deployments are known,
	// because the REST API is configured. Otherwise a policy that reads a name does not
	// load, and repositories are identified by their UUIDs.
	Names bool
	// Repositories are the full names of all repositories, nil if they are not known. A
	// rule or document with another name gets a warning.
	Repositories []string
	// Webhooks are the configured names that rules about deliveries may name, nil if they
	// are not known. A rule with another name gets a warning, and a route to another
	// endpoint is an error of the decision.
	Webhooks *WebhookNames
	// Deadline bounds one evaluation; zero is [DefaultDeadline].
	Deadline time.Duration
	// SkipTests does not run the tests of the set: for a revision that has passed them,
	// and is only evaluated again.
	SkipTests bool
	// Previous is a set that was loaded with the same options, or nil. A unit that is the
	// same in it is not checked and tested again.
	Previous *Set
	// OnFailure is the effect of a repository whose policy fails.
	OnFailure RepositoryFailure
	// Fallback is a set, or nil. A repository whose policy fails, and which has no rules
	// in Previous, keeps its rules of Fallback.
	Fallback *Set
	// Kept are the repositories whose rules of an earlier revision were in force in the
	// previous process. [Resume] and [Recall] use them.
	Kept []policy.KeptRepository
	// RetryRejected checks the policies again that Previous has rejected, although they
	// are the same.
	RetryRejected bool
	// Defer does not check the changed policies of repositories: [Set.Pending] lists them.
	// Each of these repositories keeps its rules of Previous or Fallback, or is denied,
	// until [Engine.Check] and [Set.Settle].
	Defer bool
	// SpareProcessor leaves one processor, where there are several, to the traffic that
	// continues while the policy is loaded.
	SpareProcessor bool
	// Prechecked is set if exactly this content has passed all checks and tests of this
	// version of the program. Only the organization's rules are compiled, and a
	// repository's for its first request.
	Prechecked bool
	// Workers execute the files of repositories. nil is a pool of this process with
	// default limits, for a program that calls [ServeWorker] first.
	Workers Workers
	// Background evaluates a repository's policy only while no client's evaluation waits:
	// for a policy that decides nothing. A repository whose policy fails keeps its rules
	// of Fallback, and none of Previous.
	Background bool
	// Recorded is set if [Set.Snapshot] returned the snapshot: the library in it is used,
	// and not the one that this program ships.
	Recorded bool
}

// RepositoryFailure is the effect on a revision in which the policy of a repository fails:
// its files, a check, its tests, or recent inputs. An error in the organization's own
// files always rejects the revision.
type RepositoryFailure uint8

// The effects of a failure.
const (
	// RejectRevision rejects the whole revision.
	RejectRevision RepositoryFailure = iota
	// KeepPrevious keeps that repository's rules of the latest revision in which they
	// passed, and denies the repository everything if there are none.
	KeepPrevious
	// DenyRepository denies the repository everything.
	DenyRepository
)
