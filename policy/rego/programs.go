package rego

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// checkAgain is how long the policy of a repository that failed its check for the first
// request is refused without another check.
const checkAgain = time.Minute

// workersAgain is how long the policy of a repository is refused after no worker could
// compile it.
const workersAgain = time.Second

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

// compile compiles a policy that was checked when the set was loaded.
func (s *Set) compile(u *unit) (*remoteProgram, error) {
	if u.unchecked() {
		return s.verify(u)
	}
	return s.loader.compileInWorker(context.Background(), u)
}

// verify checks, tests and compiles a repository's policy whose only result is one of a
// previous process.
func (s *Set) verify(u *unit) (*remoteProgram, error) {
	p, err := s.check(u)
	s.faults.note(u.repository, err != nil)
	return p, err
}

func (s *Set) check(u *unit) (*remoteProgram, error) {
	one := s.loader.fork()
	v := *u
	v.checkResult = checkResult{}
	if err := one.inspectInWorker(context.Background(), &v); err != nil {
		return nil, err
	}
	if len(one.errors) == 0 && slices.ContainsFunc(u.sources, func(s source) bool { return s.test }) {
		var report TestReport
		if _, _, err := one.testInWorker(context.Background(), &v, &report); err != nil {
			return nil, fmt.Errorf("testing %s: %w", unitName(u), err)
		}
		one.errors = report.failures()
	}
	if len(one.errors) > 0 {
		return nil, fmt.Errorf("its cached check was accepted, and it fails: %w", one.errors.sorted())
	}
	p, err := s.loader.compileInWorker(context.Background(), u)
	if err != nil {
		return nil, err
	}
	v.checked, v.warnings = true, one.warnings
	u.cached.seen.Store(&v.checkResult)
	return p, nil
}
