package rego

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/policy"
)

// Pending is a repository whose changed policy is not checked yet, while the rest of the
// revision is in force.
type Pending struct {
	Repository string
	Kept       policy.Revision // whose rules of the repository decide; the zero value: none, and everything is denied
}

// PendingError is why a repository is denied everything whose policy is not checked yet
// and which has no earlier rules.
type PendingError struct{ Repository string }

func (e *PendingError) Error() string {
	return fmt.Sprintf("the policy of repository %s is not checked yet, and it has no earlier rules", e.Repository)
}

// PendingText is the message of each decision that was not made because the
// repository's policy was not checked yet.
const PendingText = "the policy of this repository is being checked: try again in a minute"

// ClientText is what the repository's own steps may read.
func (e *PendingError) ClientText() string { return PendingText }

// Pending lists the repositories whose policy is not checked yet, sorted by name.
func (s *Set) Pending() []Pending {
	list := make([]Pending, 0, len(s.pending))
	for _, name := range sortedKeys(s.pending) {
		list = append(list, *s.pending[name])
	}
	return list
}

// postpone leaves the policy of a repository unchecked. before are the sets whose rules
// may be kept meanwhile, the preferred one first; each may be nil.
func (s *Set) postpone(u *unit, before ...*Set) {
	s.pending[u.repository] = &Pending{Repository: u.repository, Kept: s.keepFrom(u, before)}
}

// notice is what the steps of a repository should know where rules of an earlier
// revision decide.
func (s *Set) notice(repository string) string {
	if r := s.rejected[repository]; r != nil {
		return r.notice()
	}
	if p := s.pending[repository]; p != nil {
		rules := "those of an earlier revision"
		if p.Kept.Commit != "" {
			rules = "those of commit " + shortCommit(p.Kept.Commit)
		}
		return "the latest rules of this repository are being checked, and " + rules + " decide"
	}
	return ""
}

// ErrAttempt reports that a check did not end within its limit. It has no outcome.
var ErrAttempt = errors.New("the check takes longer")

// fullCheck is the attempt of a check that has all the time of its limits.
const fullCheck = -1

// Checked is the outcome of checking the policy of one repository.
type Checked struct {
	Repository string
	Failure    error // why it is rejected; nil: it passed

	set     *Set // in which it was checked
	unit    *unit
	program *lazyProgram // nil: it is not compiled
}

// Check checks and tests the policy of a repository that is pending or rejected in a
// set, and evaluates recent inputs with it. It changes nothing: [Set.Settle] does. With a
// limit, an attempt to do so in that time: the error is [ErrAttempt] if that is not
// enough, or if the policy ended its worker. Other errors are not the policy's. Safe for
// concurrent use.
func (e *Engine) Check(ctx context.Context, set *Set, repository string, limit time.Duration) (*Checked, error) {
	before := set.units[repository]
	if before == nil {
		return nil, fmt.Errorf("policy: revision %s has no policy of repository %s", set.Revision().Digest, repository)
	}
	u := newUnit(repository)
	u.sources, u.misplaced = before.sources, before.misplaced
	c := &Checked{Repository: repository, set: set, unit: u}
	one := set.loader.alone()
	if one.attempt = limit; limit == 0 {
		one.attempt = fullCheck
	}
	failure, err := one.checkUnit(ctx, u)
	switch {
	case err != nil:
		return nil, err
	case failure == nil:
		failure, err = e.probeUnit(ctx, c)
	}
	if failure != nil {
		u.standing = standing{failure: failure}
	}
	c.Failure = failure
	return c, err
}

// checkUnit checks and tests a unit. The failure is the policy's, the error is not.
func (l *loader) checkUnit(ctx context.Context, u *unit) (failure, err error) {
	if len(u.misplaced) > 0 {
		return u.misplaced, nil
	}
	if err := l.inspectApart(ctx, u); err != nil {
		return nil, err
	}
	if len(l.errors) > 0 {
		return l.errors.sorted(), nil
	}
	if slices.ContainsFunc(u.sources, func(s source) bool { return s.test }) {
		var report TestReport
		if _, _, err := l.testApart(ctx, u, &report); err != nil {
			return nil, fmt.Errorf("testing %s: %w", unitName(u), err)
		}
		if failed := report.failures(); len(failed) > 0 {
			return TestsFailed{failed.sorted()}, nil
		}
	}
	u.checked, u.warnings = true, l.warnings
	return nil, nil
}

// probeUnit evaluates recent inputs of a repository with its new policy, for
// [prepareTime] at most.
func (e *Engine) probeUnit(ctx context.Context, c *Checked) (failure, err error) {
	s := c.set
	var questions []*question
	for _, recent := range e.recent.list() {
		q, err := recordedQuestion(recent.input, s.loader.options.Names)
		if err == nil && q.repository == c.Repository {
			questions = append(questions, q)
		}
	}
	if len(questions) == 0 {
		return nil, nil
	}
	one := s.loader.alone()
	one.organization, one.repositories, one.snapshot = newUnit(""), []*unit{c.unit}, nil
	mini := &Set{
		snapshot: s.snapshot, loader: one, units: map[string]*unit{c.Repository: c.unit}, exceptions: s.exceptions,
		programs: newLRU[string, *lazyProgram](1), principals: newLRU[*identity.Principal, *lazyPart](1), faults: new(faults),
	}
	if err := mini.prepareRepository(ctx, c.Repository, questions, time.Now().Add(prepareTime)); err != nil {
		errs, ok := errors.AsType[Errors](err)
		if !ok {
			return nil, err
		}
		return ProbeFailed{errs}, nil
	}
	c.program, _ = mini.programs.peek(c.Repository)
	return nil, nil
}

// Settle returns the set with the outcomes of checks: a repository whose policy passed
// has it in force, and one whose policy failed is rejected. Outcomes of other files,
// documents or library than the set has are left out; their repositories are not settled.
// The set itself is not changed, and may decide.
func (s *Set) Settle(outcomes []*Checked) (settled *Set, accepted []*Checked) {
	n := *s
	n.warnings = slices.Clone(s.warnings)
	n.units, n.kept = maps.Clone(s.units), maps.Clone(s.kept)
	n.rejected, n.pending = maps.Clone(s.rejected), maps.Clone(s.pending)
	for _, c := range outcomes {
		if !s.accepts(c) {
			continue
		}
		accepted = append(accepted, c)
		u := newUnit(c.Repository)
		u.sources, u.misplaced, u.standing = s.units[c.Repository].sources, c.unit.misplaced, c.unit.standing
		n.units[c.Repository] = u
		if c.Failure != nil {
			n.settleFailure(c)
			continue
		}
		delete(n.pending, c.Repository)
		delete(n.rejected, c.Repository)
		delete(n.kept, c.Repository)
		n.warnings = append(n.warnings, u.warnings...)
		u.reused = true // it has answered recent inputs
		if c.program != nil && c.program.err == nil && c.set.loader.environment == s.loader.environment {
			s.programs.get(c.Repository, func() *lazyProgram { return c.program })
		}
	}
	n.warnings = n.warnings.sorted()
	n.settled += len(accepted)
	return &n, accepted
}

// settleFailure rejects a repository in a set that does not decide yet. What it keeps
// was chosen when its policy became pending.
func (s *Set) settleFailure(c *Checked) {
	r := &Rejection{Repository: c.Repository, Failure: c.Failure}
	if before := s.rejected[c.Repository]; before != nil {
		r.Kept = before.Kept
	}
	if before := s.pending[c.Repository]; before != nil {
		r.Kept = before.Kept
		if s.loader.options.OnFailure != KeepPrevious {
			r.Kept = policy.Revision{}
			delete(s.kept, c.Repository)
		}
		delete(s.pending, c.Repository)
	}
	s.rejected[c.Repository] = r
}

// accepts reports whether the outcome of a check is one of the present files.
func (s *Set) accepts(c *Checked) bool {
	if s.pending[c.Repository] == nil && s.rejected[c.Repository] == nil || !s.SameFiles(c.set, c.Repository) {
		return false
	}
	l, old := s.loader, c.set.loader
	if l.environment == old.environment {
		return true
	}
	if !sameSources(old.library, l.library) {
		return false
	}
	if c.Failure != nil || c.unit.all {
		return old.data.Compare(l.data) == 0
	}
	return every(c.unit.reads, func(path string) bool { return sameDocument(old.data, l.data, splitRead(path)) })
}

// SameFiles reports whether a repository has the same files of policy in two sets.
func (s *Set) SameFiles(other *Set, repository string) bool {
	a, b := s.units[repository], other.units[repository]
	return a != nil && b != nil && len(a.misplaced)+len(b.misplaced) == 0 && sameSources(a.sources, b.sources) &&
		s.loader.options.Names == other.loader.options.Names
}
