package rego

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/policy"
)

// Kept lists the repositories whose rules of an earlier revision are in force, sorted by
// name.
func (s *Set) Kept() []policy.KeptRepository {
	var list []policy.KeptRepository
	shared := map[*source][]policy.File{}
	for _, repository := range slices.Sorted(maps.Keys(s.kept)) {
		kept := s.kept[repository]
		l := kept.loader
		at := &l.library[0] // every revision has a library
		if shared[at] == nil {
			shared[at] = append(slices.Clone(l.documents), filesOf(l.library)...)
		}
		list = append(list, policy.KeptRepository{
			Repository: repository, Revision: kept.origin, Files: filesOf(kept.units[repository].sources), Shared: shared[at],
		})
	}
	return list
}

// WithRepository returns the set with the rules that a repository has in another set, to
// evaluate decisions of both again. The set itself is not changed. It is an error if the
// repository has no rules in the other set.
func (s *Set) WithRepository(repository string, other *Set) (*Set, error) {
	kept := other.keep(repository, nil)
	if kept == nil {
		return nil, fmt.Errorf("policy: revision %s has no rules of repository %s", other.Revision().Digest, repository)
	}
	both := &Set{
		snapshot: s.snapshot, warnings: s.warnings, loader: s.loader, organization: s.organization, deliveries: s.deliveries, units: maps.Clone(s.units),
		programs: newLRU[string, *lazyProgram](maxPrograms), exceptions: s.exceptions,
		principals: newLRU[*identity.Principal, *lazyPart](maxPrincipals), kept: map[string]*Set{repository: kept}, faults: new(faults),
	}
	both.units[repository] = kept.units[repository]
	return both, nil
}

// keep returns the rules of one repository as a set without an organization; nil if none
// passed. It shares the context of next, the loader of the revision that keeps the rules,
// where that is the same; next may be nil.
func (s *Set) keep(repository string, next *loader) *Set {
	if s == nil {
		return nil
	}
	if kept := s.kept[repository]; kept != nil {
		return kept
	}
	before := s.units[repository]
	if before == nil || before.failure != nil || s.pending[repository] != nil {
		return nil
	}
	u := newUnit(repository)
	u.checkResult = before.now()
	for _, src := range before.sources {
		src.content = bytes.Clone(src.content) // it may be a part of the whole tree's
		u.sources = append(u.sources, src)
	}
	one := s.loader.fork()
	if next != nil && next.hasSameContext(s.loader) {
		one = next.fork()
	}
	one.organization, one.repositories, one.snapshot = newUnit(""), []*unit{u}, nil
	one.options.Previous, one.options.Fallback, one.sameContext = nil, nil, nil
	kept := &Set{
		snapshot: s.snapshot, origin: s.Revision(), loader: one, units: map[string]*unit{repository: u}, exceptions: s.exceptions,
		programs: newLRU[string, *lazyProgram](1), principals: newLRU[*identity.Principal, *lazyPart](1), faults: new(faults),
	}
	if program, ok := s.programs.peek(repository); ok {
		kept.programs.get(repository, func() *lazyProgram { return program })
	}
	return kept
}

// hasUnproven reports whether the rules of the set are those that failed in next, and were
// never checked in this process.
func (s *Set) hasUnproven(u *unit, next *loader) bool {
	before := s.units[u.repository]
	return s.kept[u.repository] == nil && before.unchecked() && sameSources(before.sources, u.sources) && next.hasSameContext(s.loader)
}

// hasSameContext reports whether another revision has the same documents and the same
// library.
func (l *loader) hasSameContext(old *loader) bool {
	same, known := l.sameContext[old]
	if !known {
		same = sameSources(old.library, l.library) && old.data.Compare(l.data) == 0
		if l.sameContext == nil {
			l.sameContext = map[*loader]bool{}
		}
		l.sameContext[old] = same
	}
	return same
}
