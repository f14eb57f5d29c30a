package rego

import "github.com/sallyport/sallyport/policy/rego/reads"

// readsFor returns the parts of the input that rules can read for the requests of a
// repository: the organization's rules, and the repository's own, which may be those of an
// earlier revision.
//
// The organization's rules were compiled in this process. A repository's are compiled in a
// worker, which executes text that is not trusted. If a worker could state the reads, a
// false statement would hold for every input of the revision. Therefore this process scans
// the text of the rules itself, without parsing it.
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
