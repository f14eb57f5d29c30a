package rego

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/policy"
)

// load goes through everything, so that all errors are reported at once, and
// returns a set only if there are none.
func (l *loader) load(ctx context.Context) (*Set, error) {
	l.layOut(l.snapshot)
	if err := l.loadLibrary(); err != nil {
		return nil, err
	}
	if l.findings != nil {
		if err := l.useFindings(); err != nil {
			return nil, err
		}
		l.findings = nil
	}
	if l.unproven {
		for _, u := range l.repositories {
			u.checkResult = checkResult{checked: true, all: true, cached: new(cachedCheck), failure: u.failure}
		}
	}
	if err := l.readDocumentsInWorker(ctx); err != nil {
		return nil, err
	}
	l.store = inmem.NewFromASTObject(l.data)

	organization, err := l.inspectAll(ctx)
	if err != nil {
		return nil, err
	}
	if len(l.errors) == 0 && !l.options.SkipTests {
		report, err := l.testChanged(ctx)
		if err != nil {
			return nil, err
		}
		if failures := report.failures(); len(failures) > 0 {
			return nil, TestsFailed{failures.sorted()}
		}
	}
	if len(l.errors) > 0 {
		return nil, l.errors.sorted()
	}
	for _, u := range l.units() {
		// What was not tested has to be, before it decides.
		u.checked = u.failure == nil && !u.pending && (u.checked || !l.options.SkipTests || l.options.Prechecked)
	}
	return l.set(organization)
}

// inspectAll inspects the units that are not known to be good, several at a time,
// and returns the organization's program.
func (l *loader) inspectAll(ctx context.Context) (organization *program, err error) {
	l.reuse(l.options.Previous)
	units := l.units()
	found := make([]*loader, len(units))
	err = l.each(ctx, len(units), func(i int) {
		u, one := units[i], l.fork()
		found[i] = one
		if u.failure != nil {
			return
		}
		known := u.checked
		if u.isRepository() && !known && l.options.Defer {
			u.pending = true
			return
		}
		if known || l.options.Prechecked {
			if u.isRepository() {
				u.all = u.all || !known // nobody has looked what it reads
				return
			}
		}
		one.inspected = 1
		// What is compiled there is compiled again when it is asked about.
		failure := recovered("loading "+unitName(u), func() error {
			if err := one.inspectInWorker(ctx, u); err != nil || u.isRepository() || len(one.errors) > 0 {
				return err
			}
			organization, err = one.compileUnit(u)
			return err
		})
		if failure != nil && ctx.Err() == nil {
			one.fail(Error{File: u.sources[0].path, Line: 1, Column: 1, Message: failure.Error()})
		}
		u.warnings = one.warnings
	})
	if err != nil {
		return nil, err
	}
	for i, u := range units {
		l.inspected += found[i].inspected
		l.failUnit(u, found[i].errors)
		if u.failure == nil {
			l.warnings = append(l.warnings, u.warnings...)
		}
	}
	return organization, nil
}

// testChanged runs the tests of the units that are not known to pass.
func (l *loader) testChanged(ctx context.Context) (*TestReport, error) {
	var units []*unit
	for _, u := range l.units() {
		if !u.checked && !u.pending && u.failure == nil && slices.ContainsFunc(u.sources, func(s source) bool { return s.test }) {
			units = append(units, u)
		}
	}
	reports, failures := make([]TestReport, len(units)), make([]error, len(units))
	err := l.each(ctx, len(units), func(i int) {
		_, _, failures[i] = l.fork().testInWorker(ctx, units[i], &reports[i])
	})
	if err != nil {
		return nil, err
	}
	report := &TestReport{}
	for i, u := range units {
		spared := u.isRepository() && l.options.OnFailure != RejectRevision
		switch failed := reports[i].failures(); {
		case failures[i] != nil && spared:
			u.failure = TestsFailed{Errors{asError(fmt.Errorf("testing %s: %w", unitName(u), failures[i]))}}
			continue
		case failures[i] != nil:
			return nil, fmt.Errorf("testing %s: %w", unitName(u), failures[i])
		case len(failed) > 0 && spared:
			u.failure = TestsFailed{failed.sorted()}
			continue
		}
		report.Results = append(report.Results, reports[i].Results...)
	}
	return report, nil
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
		units: map[string]*unit{}, exceptions: exceptionsIn(l.data),
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
