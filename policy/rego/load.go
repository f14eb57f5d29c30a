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

// load runs all checks, so that it reports all errors at once, and returns a set only if
// there are none.
func (l *loader) load(ctx context.Context) (*Set, error) {
	if err := l.readFiles(ctx); err != nil {
		return nil, err
	}
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

// readFiles assigns the snapshot's files to units, and reads the library, the findings
// and the documents.
func (l *loader) readFiles(ctx context.Context) error {
	l.layOut(l.snapshot)
	if err := l.loadLibrary(); err != nil {
		return err
	}
	if l.findings != nil {
		if err := l.useFindings(); err != nil {
			return err
		}
		l.findings = nil
	}
	if l.unproven {
		for _, u := range l.repositories {
			u.checkResult = checkResult{checked: true, all: true, cached: new(cachedCheck), failure: u.failure}
		}
	}
	if err := l.readDocumentsInWorker(ctx); err != nil {
		return err
	}
	l.store = inmem.NewFromASTObject(l.data)
	return nil
}

// inspectAll inspects the units that are not known to be good, several at a time,
// and returns the organization's programs.
func (l *loader) inspectAll(ctx context.Context) (organization *unitPrograms, err error) {
	l.reuse(l.options.Previous)
	units := l.units()
	found := make([]*loader, len(units))
	err = l.each(ctx, len(units), func(i int) {
		found[i] = l.fork()
		if p := found[i].inspectUnit(ctx, units[i]); p != nil {
			organization = p // of one unit only
		}
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

// inspectUnit inspects a unit that is not known to be good. It returns the programs of
// the organization, nil for a repository and where the organization's policy fails.
func (l *loader) inspectUnit(ctx context.Context, u *unit) (organization *unitPrograms) {
	known := u.checked
	switch {
	case u.failure != nil:
		return nil
	case u.isRepository() && !known && l.options.Defer:
		u.pending = true
		return nil
	case u.isRepository() && (known || l.options.Prechecked):
		u.all = u.all || !known // the documents that it reads are not known
		return nil
	}
	l.inspected = 1
	// A repository's policy is compiled for the first request.
	failure := recovered("loading "+unitName(u), func() (err error) {
		if err := l.inspectInWorker(ctx, u); err != nil || u.isRepository() || len(l.errors) > 0 {
			return err
		}
		organization, err = l.compileUnit(u)
		return err
	})
	if failure != nil && ctx.Err() == nil {
		l.fail(Error{File: u.sources[0].path, Line: 1, Column: 1, Message: failure.Error()})
	}
	u.warnings = l.warnings
	return organization
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

// set completes the loading. The set's snapshot has the files of the tree and of the
// library, because both decide.
func (l *loader) set(organization *unitPrograms) (*Set, error) {
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
		snapshot: snapshot, warnings: l.warnings.sorted(), loader: l, organization: organization.of(egress), deliveries: organization.of(deliveries),
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
	l.options.Previous, l.options.Fallback = nil, nil // the set must not keep them in memory
	return s, nil
}
