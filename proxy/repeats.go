package proxy

import (
	"strings"
	"sync"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/fair"
	"github.com/sallyport/sallyport/policy"
)

// Refusals of verified steps that are recorded one by one. What is over these rates
// gets the decision id of an earlier refusal, whose event is durable, and is counted.
const (
	repeatBurst   = 5                // refusals of one target for one reason, at once
	repeatRefill  = 12 * time.Second // after which one more of them is recorded
	refusalBurst  = 200              // refusals of one step, at once
	refusalRefill = time.Second / 20 // after which one more of them is recorded
	repeatMaxAge  = 10 * time.Minute // after which a refusal that was not repeated is forgotten
	repeatSweep   = time.Minute      // between two looks for those
	maxRepeatKeys = 128              // targets and reasons that are known of one step
	maxRepeats    = 16_384           // and of all steps

	maxRepositoryRepeats = maxRepeats / 4 // and of the steps of one repository; of others every refusal is recorded
)

// repeatKey names refusals that differ in their time and path alone.
type repeatKey struct {
	action   policy.Action
	target   string
	reason   policy.Reason
	rule     string
	revision string // of the organization, and of the repository where that differs
}

// stepKey is a step of a repository under its issuer.
type stepKey fair.Subject

func (k stepKey) repository() fair.Subject {
	return fair.Subject{Issuer: k.Issuer, Repository: k.Repository}
}

// repeats knows the latest refusals of verified steps. Its zero value is ready.
// It is safe for concurrent use.
type repeats struct {
	mu           sync.Mutex
	steps        map[stepKey]*stepRefusals
	repositories map[fair.Subject]*repositoryRepeats // of steps
	known        int                                 // keys of all steps
	swept        time.Time
	total        int64
}

// stepRefusals are those of one step.
type stepRefusals struct {
	keys  map[repeatKey]*repeat
	spare budget // of the refusals that are recorded one by one
	used  time.Time
}

// repeat is a refusal and how often it was repeated.
type repeat struct {
	first audit.Event // of the first refusal; without an input. Its id is empty until it is durable
	spare budget
	used  time.Time
	count int64     // not recorded yet
	since time.Time // that the count is from
}

// budget is a token bucket.
type budget struct {
	tokens float64
	at     time.Time
}

func (b *budget) take(now time.Time, burst int, refill time.Duration) bool {
	if b.at.IsZero() {
		b.tokens = float64(burst)
	} else if passed := now.Sub(b.at); passed > 0 {
		b.tokens = min(float64(burst), b.tokens+float64(passed)/float64(refill))
	}
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// repositoryRepeats are those of the steps of one repository.
type repositoryRepeats struct {
	steps, known int    // steps, and keys of all of them
	spare        budget // of the refusals that are recorded one by one
}

// take decides about one more refusal of a step. With an id it is a repeat, which is
// counted and answered with that id. Otherwise it is to be recorded, and noted on
// the entry once it is durable; over is the reason for which it is to be refused
// instead, because the step or its repository is refused for too many targets. A nil
// entry is not tracked.
func (r *repeats) take(step stepKey, key repeatKey, now time.Time) (entry *repeat, id string, over policy.Reason) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sweep(now)
	if r.steps == nil {
		r.steps, r.repositories = make(map[stepKey]*stepRefusals), make(map[fair.Subject]*repositoryRepeats)
	}
	of := r.repositories[step.repository()]
	if of == nil {
		of = &repositoryRepeats{}
		r.repositories[step.repository()] = of
	}
	s := r.steps[step]
	if s == nil {
		if of.steps >= maxRepositoryRepeats || len(r.steps) >= maxRepeats {
			return nil, "", of.take(now)
		}
		s = &stepRefusals{keys: make(map[repeatKey]*repeat)}
		r.steps[step] = s
		of.steps++
	}
	s.used = now
	if entry = r.track(s, of, key, now); entry != nil {
		entry.used = now
		if !entry.spare.take(now, repeatBurst, repeatRefill) && entry.first.DecisionID != "" {
			if entry.count == 0 {
				entry.since = now
			}
			entry.count++
			r.total++
			return entry, entry.first.DecisionID, ""
		}
	}
	if !s.spare.take(now, refusalBurst, refusalRefill) {
		return entry, "", policy.StepLimit
	}
	return entry, "", of.take(now)
}

// take returns the reason for which a refusal is over the rate of the repository.
func (of *repositoryRepeats) take(now time.Time) (over policy.Reason) {
	if of.spare.take(now, repositoryRefusals*refusalBurst, refusalRefill/repositoryRefusals) {
		return ""
	}
	return policy.RepositoryLimit
}

// track returns the entry of a key, nil where there are as many as may be.
func (r *repeats) track(s *stepRefusals, of *repositoryRepeats, key repeatKey, now time.Time) *repeat {
	if entry := s.keys[key]; entry != nil {
		return entry
	}
	if len(s.keys) >= maxRepeatKeys {
		n := s.evictOne()
		r.known, of.known = r.known-n, of.known-n
	}
	if len(s.keys) >= maxRepeatKeys || of.known >= maxRepositoryRepeats || r.known >= maxRepeats {
		return nil
	}
	entry := &repeat{since: now}
	s.keys[key] = entry
	r.known, of.known = r.known+1, of.known+1
	return entry
}

// evictOne makes room: it forgets the entry that was used least lately, of those
// without a count, and returns how many that are.
func (s *stepRefusals) evictOne() int {
	var oldest repeatKey
	var at time.Time
	for k, e := range s.keys {
		if e.count == 0 && (at.IsZero() || e.used.Before(at)) {
			oldest, at = k, e.used
		}
	}
	if at.IsZero() {
		return 0
	}
	delete(s.keys, oldest)
	return 1
}

// sweep forgets what was not used lately and has nothing to record.
func (r *repeats) sweep(now time.Time) {
	if now.Sub(r.swept) < repeatSweep {
		return
	}
	r.swept = now
	for step, s := range r.steps {
		for key, e := range s.keys {
			if e.count == 0 && now.Sub(e.used) >= repeatMaxAge {
				delete(s.keys, key)
				r.known--
				r.repositories[step.repository()].known--
			}
		}
		if len(s.keys) == 0 && now.Sub(s.used) >= repeatMaxAge {
			delete(r.steps, step)
			r.repositories[step.repository()].steps--
		}
	}
	for repository, of := range r.repositories {
		if of.steps == 0 {
			delete(r.repositories, repository)
		}
	}
	if len(r.steps) == 0 {
		r.steps = nil // a map keeps its size
	}
}

// of copies what the events of repeats contain of the first refusal. The host may be a
// part of a request target of 64 KiB, which is not to be kept.
func (*repeat) of(e *audit.Event) audit.Event {
	return audit.Event{
		Kind: audit.KindRefusalsRepeated, DecisionID: e.DecisionID, Source: e.Source,
		Issuer: e.Issuer, CredentialKind: e.CredentialKind, WorkspaceUUID: e.WorkspaceUUID, RepositoryUUID: e.RepositoryUUID, DeploymentUUID: e.DeploymentUUID,
		PipelineUUID: e.PipelineUUID, StepUUID: e.StepUUID, Workspace: e.Workspace, Repository: e.Repository, Project: e.Project,
		Deployment: e.Deployment, DeploymentType: e.DeploymentType, Branch: e.Branch,
		Action: e.Action, Scheme: e.Scheme, Host: strings.Clone(e.Host), Port: e.Port, Verdict: e.Verdict, Mode: e.Mode, Reason: e.Reason, Rule: e.Rule,
		Revision: e.Revision, Commit: e.Commit, RepositoryRevision: e.RepositoryRevision, Status: e.Status,
	}
}

// durable notes that a refusal is in the log: its repeats may be counted. A nil
// entry is not tracked.
func (r *repeats) durable(entry *repeat, first audit.Event) {
	if entry == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if entry.first.DecisionID == "" {
		entry.first = first
	}
}
