package rego

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/policy"
)

// Bounds on what a set keeps ready.
const (
	maxPrograms   = 1024 // repositories whose own policy is compiled
	maxPrincipals = 4096 // principals whose part of the input is made
)

// Set is a policy that passed all checks, at one revision. It is immutable for its users
// and safe for concurrent use. It compiles a repository's policy for the repository's
// first request, and keeps the latest used.
type Set struct {
	snapshot     *policy.Snapshot
	warnings     Errors
	loader       *loader
	organization *program // about requests; nil: the organization has no such rules
	deliveries   *program // of the organization, about deliveries; nil: it has no such rules
	units        map[string]*unit
	programs     *lru[string, *lazyProgram]
	exceptions   []Exception
	principals   *lru[*identity.Principal, *lazyPart]
	faults       *faults

	rejected map[string]*Rejection // repositories whose policy failed
	pending  map[string]*Pending   // repositories whose policy is not checked yet
	kept     map[string]*Set       // the rules that those of both have that keep earlier ones
	settled  int                   // policies that were checked after the loading
	origin   policy.Revision       // of such rules: the revision that they are of
}

type lazyProgram struct {
	once    sync.Once
	program *remoteProgram
	err     error
	again   time.Time // when to try again; zero: never
}

type lazyPart struct {
	once sync.Once
	part *principalPart
	err  error
}

// Revision identifies the set: the digest covers the files of the tree and of the library.
func (s *Set) Revision() policy.Revision { return s.snapshot.Revision() }

// Snapshot returns all files that decide, those of the tree and of the library. A set that
// is loaded from it, with [Options.Recorded], decides the same.
func (s *Set) Snapshot() *policy.Snapshot { return s.snapshot }

// Warnings returns the warnings of the checks, sorted.
func (s *Set) Warnings() []Error { return slices.Clone(s.warnings) }

// Inspected is how many policies, the organization's and the repositories', were checked
// when the set was loaded or since. The others are known to pass, or pending.
func (s *Set) Inspected() int { return s.loader.inspected + s.settled }

// Repositories lists the repositories that have rules of their own, sorted.
func (s *Set) Repositories() []string {
	list := make([]string, 0, len(s.units))
	for name := range s.units {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

// recent lists the repositories whose policy was used lately.
func (s *Set) recent() []string { return s.programs.keys() }

// unit returns the unit of a repository, or the organization's for an empty name; nil if
// there is none.
func (s *Set) unit(repository string) *unit {
	if repository == "" {
		return s.loader.organization
	}
	return s.units[repository]
}

// allUnits are the organization's and the repositories' units, sorted by name.
func (s *Set) allUnits() []*unit {
	var units []*unit
	if len(s.loader.organization.sources) > 0 {
		units = append(units, s.loader.organization)
	}
	for _, name := range slices.Sorted(maps.Keys(s.units)) {
		units = append(units, s.units[name])
	}
	return units
}

// Exceptions lists the exceptions in the set's documents, the first to end first.
func (s *Set) Exceptions() []Exception { return slices.Clone(s.exceptions) }

// Pending lists the repositories whose policy is not checked yet, sorted by name.
func (s *Set) Pending() []Pending {
	list := make([]Pending, 0, len(s.pending))
	for _, name := range slices.Sorted(maps.Keys(s.pending)) {
		list = append(list, *s.pending[name])
	}
	return list
}

// Rejected lists the repositories whose policy was rejected, sorted by name.
func (s *Set) Rejected() []Rejection {
	list := make([]Rejection, 0, len(s.rejected))
	for _, r := range s.rejected {
		list = append(list, *r)
	}
	slices.SortFunc(list, func(a, b Rejection) int { return cmp.Compare(a.Repository, b.Repository) })
	return list
}

// SameFiles reports whether a repository has the same files of policy in two sets.
func (s *Set) SameFiles(other *Set, repository string) bool {
	a, b := s.units[repository], other.units[repository]
	return a != nil && b != nil && len(a.misplaced)+len(b.misplaced) == 0 && sameSources(a.sources, b.sources) &&
		s.loader.options.Names == other.loader.options.Names
}

// Refused lists the repositories that are denied everything, sorted: findings had their
// policy as passed, and it failed for the first request.
func (s *Set) Refused() []string {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	return slices.Sorted(maps.Keys(s.faults.repositories))
}
