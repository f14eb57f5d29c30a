package rego

import "github.com/sallyport/sallyport/policy"

// reject applies [Options.OnFailure] to a repository whose policy failed. before are the
// sets whose rules may be kept, the preferred one first; each may be nil. The set must not
// be active yet.
func (s *Set) reject(u *unit, failure error, before ...*Set) {
	r := &Rejection{Repository: u.repository, Failure: failure}
	u.checkResult = checkResult{failure: failure}
	s.programs.forget(u.repository, func(*lazyProgram) bool { return true })
	delete(s.kept, u.repository)
	if s.loader.options.OnFailure == KeepPrevious {
		r.Kept = s.keepFrom(u, before)
	}
	s.rejected[u.repository] = r
}

// keepFrom keeps the rules of a repository of the first set that has any, and returns
// their revision; the zero value if none has.
func (s *Set) keepFrom(u *unit, before []*Set) policy.Revision {
	for _, b := range before {
		kept := b.keep(u.repository, s.loader)
		if kept == nil || b.hasUnproven(u, s.loader) {
			continue
		}
		s.kept[u.repository] = kept
		return kept.origin
	}
	return policy.Revision{}
}

// DropKept denies the repositories that keep rules of a revision. The set must not be
// active yet.
func (s *Set) DropKept(digest string) {
	for name, kept := range s.kept {
		if kept.origin.Digest == digest {
			delete(s.kept, name)
			if p := s.pending[name]; p != nil {
				p.Kept = policy.Revision{}
			} else {
				s.rejected[name].Kept = policy.Revision{}
			}
		}
	}
}

// postpone leaves the policy of a repository unchecked. before are the sets whose rules
// may be kept meanwhile, the preferred one first; each may be nil.
func (s *Set) postpone(u *unit, before ...*Set) {
	s.pending[u.repository] = &Pending{Repository: u.repository, Kept: s.keepFrom(u, before)}
}

// notice is the message for the steps of a repository while rules of an earlier revision
// are in force.
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
