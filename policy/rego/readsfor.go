package rego

import "github.com/sallyport/sallyport/policy/rego/reads"

// readsFor returns what decides about the requests of a repository can read: the
// organization's rules and the repository's, those of an earlier revision if they are in
// force.
//
// The organization's rules were compiled in this process. A repository's are compiled in a
// worker, which executes the text of strangers: what a worker states about reads would be
// believed for every input of the revision. This process reads their text itself, without
// parsing it.
func (s *Set) readsFor(repository string) (organization, own *reads.Rules) {
	organization, own = &reads.Rules{}, &reads.Rules{}
	if s.organization != nil {
		organization.Merge(s.organization.reads)
	}
	owner := s.ownerOf(repository)
	u := owner.units[repository]
	if u == nil {
		return organization, own
	}
	own.Input.Merge(&owner.loader.libraryReads.Input)
	for _, src := range u.part(egress).files {
		if !src.test {
			own.Merge(reads.OfText(src.content, owner.loader.clocks))
		}
	}
	return organization, own
}
