package rego

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/sallyport/sallyport/policy"
)

// Checked is the outcome of checking the policy of one repository.
type Checked struct {
	Repository string
	Failure    error // why it is rejected; nil: it passed

	set     *Set // in which it was checked
	unit    *unit
	program *lazyProgram // nil: it is not compiled
}

// checkUnit checks and tests a unit. The failure is the policy's, the error is not.
func (l *loader) checkUnit(ctx context.Context, u *unit) (failure, err error) {
	if len(u.misplaced) > 0 {
		return u.misplaced, nil
	}
	if err := l.inspectInWorker(ctx, u); err != nil {
		return nil, err
	}
	if len(l.errors) > 0 {
		return l.errors.sorted(), nil
	}
	if slices.ContainsFunc(u.sources, func(s source) bool { return s.test }) {
		var report TestReport
		if _, _, err := l.testInWorker(ctx, u, &report); err != nil {
			return nil, fmt.Errorf("testing %s: %w", unitName(u), err)
		}
		if failed := report.failures(); len(failed) > 0 {
			return TestsFailed{failed.sorted()}, nil
		}
	}
	u.checked, u.warnings = true, l.warnings
	return nil, nil
}

// Settle returns the set with the outcomes of checks: a policy that passed is in force,
// and one that failed is rejected. Outcomes for other files, documents or another library
// than the set's are ignored. The set itself is not changed, and may be active.
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
		u.sources, u.misplaced, u.checkResult = s.units[c.Repository].sources, c.unit.misplaced, c.unit.checkResult
		n.units[c.Repository] = u
		if c.Failure != nil {
			n.settleFailure(c)
			continue
		}
		delete(n.pending, c.Repository)
		delete(n.rejected, c.Repository)
		delete(n.kept, c.Repository)
		n.warnings = append(n.warnings, u.warnings...)
		u.reused = true // it has decided recent inputs
		if c.program != nil && c.program.err == nil && c.set.loader.environment == s.loader.environment {
			s.programs.get(c.Repository, func() *lazyProgram { return c.program })
		}
	}
	n.warnings = n.warnings.sorted()
	n.settled += len(accepted)
	return &n, accepted
}

// settleFailure rejects a repository in a set that is not active yet. The rules that it
// keeps were chosen when its policy became pending.
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

// accepts reports whether the outcome of a check holds for the set's files.
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
