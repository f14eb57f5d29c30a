package rego

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/policy"
)

// RepositoryFailure says the effect on a revision in which the policy of a
// repository fails: its files, a check, its tests, or what was asked lately. An error
// in the organization's own files always rejects the revision.
type RepositoryFailure uint8

// The effect on it.
const (
	// RejectRevision rejects the whole revision.
	RejectRevision RepositoryFailure = iota
	// KeepPrevious keeps that repository's rules of the latest revision in which they
	// passed, and denies the repository everything if there are none.
	KeepPrevious
	// DenyRepository denies the repository everything.
	DenyRepository
)

// Rejection is a repository whose policy failed, while the rest of the revision loaded.
type Rejection struct {
	Repository string
	Failure    error           // wraps [Errors], all of them with their file and line where that is known
	Kept       policy.Revision // whose rules of the repository decide; the zero value: none, and everything is denied
}

// Cause is the failure in one line.
func (r *Rejection) Cause() string { return firstLine(r.Failure) }

// Files lists the files that the failure names, sorted.
func (r *Rejection) Files() []string {
	errs, ok := errors.AsType[Errors](r.Failure)
	if !ok {
		return nil
	}
	var files []string
	for _, e := range errs {
		if e.File != "" {
			files = append(files, e.File)
		}
	}
	slices.Sort(files)
	return slices.Compact(files)
}

// ProbeFailed says that a repository's rules cannot decide what was asked lately. It
// wraps [Errors].
type ProbeFailed struct{ Errors }

// Unwrap returns what failed.
func (f ProbeFailed) Unwrap() error { return f.Errors }

// RejectedError is why a repository whose policy was rejected is denied everything.
type RejectedError struct{ Rejection Rejection }

func (e *RejectedError) Error() string {
	return fmt.Sprintf("the policy of repository %s was rejected: %v", e.Rejection.Repository, e.Rejection.Failure)
}

// Unwrap returns the failure.
func (e *RejectedError) Unwrap() error { return e.Rejection.Failure }

// RejectedText begins the message of each decision that was not made because the
// repository's policy was rejected.
const RejectedText = "the policy of this repository was rejected: "

// ClientText is what the repository's own steps may read.
func (e *RejectedError) ClientText() string {
	return RejectedText + e.Rejection.Cause()
}

// maxCause bounds a failure in one line, in bytes.
const maxCause = 400

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return shortenTo(line, maxCause)
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

// reject settles the effect on a repository whose policy failed. before are the
// sets whose rules may be kept, the preferred one first; each may be nil. The set must
// not decide yet.
func (s *Set) reject(u *unit, failure error, before ...*Set) {
	r := &Rejection{Repository: u.repository, Failure: failure}
	u.standing = standing{failure: failure}
	s.programs.forget(u.repository, func(*lazyProgram) bool { return true })
	delete(s.kept, u.repository)
	if s.loader.options.OnFailure == KeepPrevious {
		r.Kept = s.keepFrom(u, before)
	}
	s.rejected[u.repository] = r
}

// keepFrom keeps the rules of a repository that the first of some sets has that has
// any, and returns their revision; the zero value if none has.
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

// DropKept denies the repositories that keep rules of a revision. The set must not
// decide yet.
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

// notice is what the steps of a repository should know of the rules that decide.
func (r *Rejection) notice() string {
	rules := "those of an earlier revision decide"
	if r.Kept.Commit != "" {
		rules = "those of commit " + shortCommit(r.Kept.Commit) + " decide"
	}
	return "the latest rules of this repository were rejected and " + rules + ": " + r.Cause()
}

func shortCommit(commit string) string { return commit[:min(len(commit), 12)] }

// spared returns the unit that a file's fault is of, where such a fault does not
// reject the revision; nil where it does.
func (l *loader) spared(path string, repositories map[string]*unit) *unit {
	parts := strings.Split(path, "/")
	if l.options.OnFailure == RejectRevision || len(parts) < 4 || parts[0] != "repositories" {
		return nil
	}
	if _, valid := l.validFolder(path, parts[1], parts[2]); !valid {
		return nil
	}
	repository := parts[1] + "/" + parts[2]
	if repositories[repository] == nil {
		repositories[repository] = newUnit(repository)
	}
	return repositories[repository]
}

// failFile reports a fault of a file: its repository's, or the revision's.
func (l *loader) failFile(e Error, repositories map[string]*unit) {
	l.failFolder(e.File, e, repositories)
}

// failFolder reports a fault of the folder that a path is in.
func (l *loader) failFolder(path string, e Error, repositories map[string]*unit) {
	u := l.spared(path, repositories)
	if u == nil {
		l.fail(e)
		return
	}
	u.misplaced = append(u.misplaced, e)
	u.failure = u.misplaced
}

// failUnit notes the faults of a unit: its repository's, or the revision's.
func (l *loader) failUnit(u *unit, errs Errors) {
	switch {
	case len(errs) == 0:
	case u.isRepository() && l.options.OnFailure != RejectRevision:
		u.failure = errs.sorted()
	default:
		l.errors = append(l.errors, errs...)
	}
}
