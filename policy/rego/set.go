package rego

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/worker"
	"github.com/sallyport/sallyport/policy"
)

// Bounds on what a set keeps ready.
const (
	maxPrograms   = 1024 // repositories whose own policy is compiled
	maxPrincipals = 4096 // principals whose part of the input is made
)

// checkAgain is how long a repository's policy that did not pass when it was first
// asked about is refused without another check.
const checkAgain = time.Minute

// workersAgain is how long a repository's policy is refused that no worker could
// compile.
const workersAgain = time.Second

// Set is a policy that passed all checks, at one revision. It is immutable to its
// users and safe for concurrent use; it compiles a repository's policy when it is
// first asked about that repository, and keeps those asked for lately.
type Set struct {
	snapshot     *policy.Snapshot
	warnings     Errors
	loader       *loader
	organization *program // nil: no rules for the organization
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

// set finishes loading: what is kept of the policy is its own files and the
// library's, since both decide.
func (l *loader) set(organization *program) (*Set, error) {
	files := slices.DeleteFunc(slices.Clone(l.snapshot.Files), func(f policy.File) bool {
		return strings.HasPrefix(f.Path, policy.LibraryFolder+"/")
	})
	for _, s := range l.library {
		files = append(files, policy.File{Path: s.path, Content: s.content})
	}
	snapshot, err := policy.NewSnapshot(files, l.snapshot.Commit)
	if err != nil {
		return nil, err
	}
	s := &Set{
		snapshot: snapshot, warnings: l.warnings.sorted(), loader: l, organization: organization,
		units: map[string]*unit{}, exceptions: l.exceptions(),
		programs:   newLRU[string, *lazyProgram](maxPrograms),
		principals: newLRU[*identity.Principal, *lazyPart](maxPrincipals),
		rejected:   map[string]*Rejection{}, pending: map[string]*Pending{}, kept: map[string]*Set{}, faults: new(faults),
	}
	for _, u := range l.repositories {
		s.units[u.repository] = u
	}
	for _, u := range l.repositories {
		before := []*Set{l.options.Previous, l.options.Fallback}
		if l.options.Background {
			before = before[1:]
		}
		switch {
		case u.failure != nil:
			s.reject(u, u.failure, before...)
		case u.pending:
			s.postpone(u, before...)
		}
	}
	l.options.Previous, l.options.Fallback = nil, nil // they must not be kept as long as this one
	return s, nil
}

// Revision names the set: the digest covers the tree's files and the library's.
func (s *Set) Revision() policy.Revision { return s.snapshot.Revision() }

// Snapshot is everything that decides: the tree's files and the library's. A set
// that is loaded from it, with [Options.Recorded], decides the same.
func (s *Set) Snapshot() *policy.Snapshot { return s.snapshot }

// Warnings are what [Check] would warn of.
func (s *Set) Warnings() []Error { return slices.Clone(s.warnings) }

// Inspected is how many policies, the organization's and the repositories', were
// checked when the set was loaded or since; of the others it was known that they pass,
// or they are pending.
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

// program returns the compiled policy of a repository, nil if it has none.
func (s *Set) program(repository string) (*remoteProgram, error) {
	if kept := s.kept[repository]; kept != nil {
		return kept.program(repository)
	}
	if r := s.rejected[repository]; r != nil {
		return nil, &RejectedError{*r}
	}
	if s.pending[repository] != nil {
		return nil, &PendingError{repository}
	}
	u := s.units[repository]
	if u == nil {
		return nil, nil
	}
	lazy := s.programs.get(repository, func() *lazyProgram { return new(lazyProgram) })
	lazy.once.Do(func() {
		began := time.Now()
		lazy.err = recovered("compiling "+unitName(u), func() error {
			p, err := s.compile(u)
			lazy.program = p
			return err
		})
		switch {
		case lazy.err != nil && isTransient(lazy.err):
			lazy.again = time.Now().Add(workersAgain)
		case lazy.err != nil && u.unchecked():
			// The machine may have been too busy for its tests. Trying again takes
			// a tenth of the time at most.
			lazy.again = time.Now().Add(max(checkAgain, 10*time.Since(began)))
		}
	})
	if !lazy.again.IsZero() && time.Now().After(lazy.again) {
		s.programs.forget(repository, func(l *lazyProgram) bool { return l == lazy })
		return s.program(repository)
	}
	return lazy.program, lazy.err
}

// compile compiles what was checked when the set was loaded.
func (s *Set) compile(u *unit) (*remoteProgram, error) {
	if u.unchecked() {
		return s.verify(u)
	}
	return s.loader.compileApart(context.Background(), u)
}

// compileUnit compiles a unit that was checked before.
func (l *loader) compileUnit(u *unit) (*program, error) {
	modules := map[string]*ast.Module{}
	for _, src := range u.sources {
		if src.test {
			continue
		}
		u.mark(src.path)
		m, err := l.parse(src)
		if err != nil {
			return nil, err
		}
		modules[src.path] = m
	}
	worker.SetMark(0)
	p, _, err := l.compile(u, modules, false)
	if err != nil {
		return nil, err
	}
	// It was done when the set was loaded, for a program that is gone; an error
	// comes up again when the repository asks.
	_ = p.warmUp(nil)
	return p, nil
}

// recent lists the repositories whose policy was asked for lately.
func (s *Set) recent() []string { return s.programs.keys() }

// warmUp evaluates once and forgets the answer. The error says where a policy
// does not end, for that is not an answer to anything; other errors are left to those
// who ask, for the question is made up.
func (p *program) warmUp(library map[string]*ast.Module) error {
	if len(p.sets) == 0 {
		return nil
	}
	q := new(question)
	*q = *warmUpQuestion() // evaluate notes what it finds in its question, and programs are warmed up side by side
	_, err := p.evaluate(context.Background(), q, warmUpDeadline)
	if !errors.Is(err, errTooLong) {
		return nil
	}
	if place := p.whereItHangs(context.Background(), q, warmUpDeadline, library); place != nil {
		return place
	}
	return err
}

var warmUpQuestion = sync.OnceValue(func() *question {
	const uuid = "00000000-0000-0000-0000-000000000000"
	part, err := newPrincipalPart(&identity.Principal{
		Kind:       identity.KindBitbucketStep,
		Workspace:  identity.Workspace{UUID: uuid, Slug: "warm-up"},
		Repository: identity.Repository{UUID: uuid, FullName: "warm-up/warm-up", Project: "WARM"},
		Branch:     "warm-up",
	}, true)
	if err != nil {
		panic("rego: the question to warm up with: " + err.Error()) // a fault of the build
	}
	r := &policy.Request{Action: policy.Connect, Time: time.Unix(0, 0)}
	r.Target.Host, r.Target.Port = "warm-up.invalid", 443
	return newQuestion(r, part)
})
