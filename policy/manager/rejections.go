package manager

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/worker"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/rego"
)

// The kinds of a rejection: a closed vocabulary, for the event and the metric.
const (
	KindLoad  = "does_not_load" // a file does not parse, compile or pass the checks
	KindTests = "tests_failed"
	KindProbe = "probe_failed" // the rules cannot decide recent inputs
)

// Kinds lists the kinds.
var Kinds = []string{KindLoad, KindTests, KindProbe}

// KindOf returns the kind of a rejection.
func KindOf(r *rego.Rejection) string {
	if _, ok := errors.AsType[rego.TestsFailed](r.Failure); ok {
		return KindTests
	}
	if _, ok := errors.AsType[rego.ProbeFailed](r.Failure); ok {
		return KindProbe
	}
	return KindLoad
}

// Rejections are the repositories whose policy is rejected in the active revision. The
// zero value has none. Its methods are safe for concurrent use.
type Rejections struct {
	mu      sync.Mutex
	current map[string]rejection // by repository
	counts  map[string]int       // by kind, in all
}

type rejection struct {
	rego.Rejection
	since time.Time
}

// Activate sets the rejections of a revision that becomes active, and returns those
// that are new: of another repository, with another failure, or with other rules in
// force than before. recovered are the repositories that are rejected no longer, sorted.
func (r *Rejections) Activate(list []rego.Rejection, at time.Time) (news []rego.Rejection, recovered []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counts == nil {
		r.counts = map[string]int{}
	}
	before := r.current
	r.current = make(map[string]rejection, len(list))
	for _, one := range list {
		old, known := before[one.Repository]
		now := rejection{one, at}
		if known {
			now.since = old.since
		}
		if !known || old.Failure.Error() != one.Failure.Error() || old.Kept.Digest != one.Kept.Digest {
			news = append(news, one)
			r.counts[KindOf(&one)]++
		}
		r.current[one.Repository] = now
	}
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if _, still := r.current[name]; !still {
			recovered = append(recovered, name)
		}
	}
	return news, recovered
}

// Counts returns how many repositories have rules of an earlier revision in force, and
// how many are denied everything.
func (r *Rejections) Counts() (kept, denied int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, one := range r.current {
		if one.Kept.Digest != "" {
			kept++
		} else {
			denied++
		}
	}
	return kept, denied
}

// Total returns how many rejections of a kind there were since the start.
func (r *Rejections) Total(kind string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counts[kind]
}

// maxListed bounds how many repositories a text lists.
const maxListed = 20

// Warning returns the warning for /readyz, nil if no repository is rejected.
func (r *Rejections) Warning() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.current) == 0 {
		return nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "the policy of %d repositories is rejected", len(r.current))
	for i, name := range slices.Sorted(maps.Keys(r.current)) {
		if i == maxListed {
			fmt.Fprintf(&b, "; and %d more: the log has them", len(r.current)-maxListed)
			break
		}
		one := r.current[name]
		fmt.Fprintf(&b, "; %s since %s, %s: %s", name, one.since.UTC().Format(time.RFC3339), InForce(&one.Rejection), one.Cause())
	}
	return errors.New(b.String())
}

// InForce names the rules of the repository that are in force.
func InForce(r *rego.Rejection) string {
	switch {
	case r.Kept.Commit != "":
		return "rules of commit " + r.Kept.Commit + " in force"
	case r.Kept.Digest != "":
		return "rules of revision " + r.Kept.Digest + " in force"
	}
	return "everything denied"
}

// Event returns the event repository_policy_rejected of a rejection in a revision.
// names is set if the policy's folders are named by name and not by UUID. more are
// attributes of the revision: its source and its commit's author.
func Event(r *rego.Rejection, revision policy.Revision, names bool, at time.Time, more []audit.Attribute) *audit.Event {
	e := &audit.Event{
		Time: at, Kind: audit.KindRepositoryPolicyRejected, Revision: revision.Digest, Commit: revision.Commit,
		RepositoryRevision: r.Kept.Digest, Message: r.Failure.Error(),
		Attributes: []audit.Attribute{{Name: "kind", Value: KindOf(r)}, {Name: "files", Value: strings.Join(r.Files(), " ")}},
	}
	setRepository(e, r.Repository, names)
	decides := "nothing: everything is denied"
	if r.Kept.Digest != "" {
		decides = "the rules of " + r.Kept.Digest
		if r.Kept.Commit != "" {
			e.Attributes = append(e.Attributes, audit.Attribute{Name: "kept_commit", Value: r.Kept.Commit})
		}
	}
	e.Attributes = append(e.Attributes, audit.Attribute{Name: "in_force", Value: decides})
	e.Attributes = append(e.Attributes, more...)
	return e
}

// setRepository names a repository in an event. names is set if the policy's folders are
// named by name and not by UUID.
func setRepository(e *audit.Event, name string, names bool) {
	workspace, repository, ok := strings.Cut(name, "/")
	switch {
	case !ok: // the organization
	case names:
		e.Workspace, e.Repository = workspace, name
	default:
		e.WorkspaceUUID, e.RepositoryUUID = workspace, repository
	}
}

// TerminatedEvent returns the event policy_worker_terminated: what the policy of share (a
// repository, or the organization) did ended a worker process, while a revision was
// active. names is as for [Event].
func TerminatedEvent(share string, death *worker.Death, revision policy.Revision, names bool, at time.Time) *audit.Event {
	e := &audit.Event{
		Time: at, Kind: audit.KindPolicyWorkerTerminated, Revision: revision.Digest, Commit: revision.Commit,
		Message:    fmt.Sprintf("the policy of %s %v", share, death),
		Attributes: []audit.Attribute{{Name: "cause", Value: string(death.Cause)}, {Name: "limit", Value: death.Limit}},
	}
	setRepository(e, share, names)
	return e
}
