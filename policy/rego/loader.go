package rego

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"github.com/sallyport/sallyport/internal/nearest"
	"github.com/sallyport/sallyport/internal/worker"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/rego/check"
	"github.com/sallyport/sallyport/policy/rego/document"
)

// The checks that have a name of their own. A test of this package takes one
// away and sees what it is there for.
const (
	checkReservedData  = "reserved data"
	checkPackages      = "packages"
	checkDefinitions   = "definitions"
	checkReads         = "reads"
	checkSets          = "sets"
	checkKeys          = "keys"
	checkIDs           = "ids"
	checkAbsent        = "absent fields"
	checkNames         = "names"
	checkCapabilities  = "capabilities"
	checkSchema        = "schema"
	checkEnds          = "it ends"
	checkTestsOnlyTest = "tests define only tests"
	checkUnread        = "unread rules"
	checkUndefined     = "undefined rules"
	checkConditions    = "conditions"
	checkSingleNames   = "single names"
	checkOperands      = "operands"
	checkExceptions    = "exceptions"

	// Not checks, but the order of evaluation.
	organizationFirst = "the organization's half first"
)

// loader is the state of one loading.
type loader struct {
	snapshot *policy.Snapshot
	options  Options
	findings []byte   // of a process before this one; nil: none
	unproven bool     // each repository's policy is checked and tested before it decides
	without  []string // checks that are left out; set by tests of this package only

	testsTime     time.Duration // for the tests of one unit
	attempt       time.Duration // the limit of a check that is repeated if it takes longer; 0: none; see fullCheck
	documentsTime time.Duration // what reading the documents took

	organization *unit
	repositories []*unit
	library      []source
	documents    []policy.File

	libraryModules map[string]*ast.Module
	written        *libraryParts // the library as it is written
	native         *libraryParts // and as it decides
	data           ast.Object
	dataText       []byte // the same as JSON
	ended          Errors // the exceptions that have ended: warnings of Check
	places         *places
	known          map[string]bool // repositories by their full names; nil: not known
	store          storage.Store
	environment    *environment

	sameContext map[*loader]bool // whether another revision has the same documents and library

	inspected        int // units that were checked, and not known to be good
	errors, warnings Errors
}

func newLoader(snapshot *policy.Snapshot, options Options) *loader {
	if options.Deadline <= 0 {
		options.Deadline = DefaultDeadline
	}
	l := &loader{snapshot: snapshot, options: options, testsTime: testsTimeout, environment: newEnvironment(), places: new(places)}
	if options.Repositories != nil {
		l.known = map[string]bool{}
		for _, name := range options.Repositories {
			l.known[name] = true
		}
	}
	return l
}

func (l *loader) runs(check string) bool { return !slices.Contains(l.without, check) }

func (l *loader) fail(e Error) { l.errors = append(l.errors, e) }

func (l *loader) warn(e Error) { l.warnings = append(l.warnings, e) }

// at makes an Error for a place in the policy. OPA leaves some generated terms
// without a place; those get their rule's.
func at(loc *ast.Location, fallback *ast.Location, message, hint string) Error {
	if loc == nil || loc.Row == 0 {
		loc = fallback
	}
	if loc == nil {
		return Error{Message: message, Hint: hint}
	}
	return Error{File: loc.File, Line: max(1, loc.Row), Column: max(1, loc.Col), Message: message, Hint: hint}
}

// load goes through everything, so that all errors are reported at once, and
// returns a set only if there are none.
func (l *loader) load(ctx context.Context) (*Set, error) {
	l.layOut(l.snapshot)
	if err := l.loadLibrary(); err != nil {
		return nil, err
	}
	if l.findings != nil {
		if err := l.believe(); err != nil {
			return nil, err
		}
		l.findings = nil
	}
	if l.unproven {
		for _, u := range l.repositories {
			u.standing = standing{checked: true, all: true, believed: new(belief), failure: u.failure}
		}
	}
	if err := l.readDocumentsApart(ctx); err != nil {
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
		u.checked = u.failure == nil && !u.pending && (u.checked || !l.options.SkipTests || l.options.Passed)
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
		u, one := units[i], l.alone()
		found[i] = one
		if u.failure != nil {
			return
		}
		known := u.checked
		if u.isRepository() && !known && l.options.Defer {
			u.pending = true
			return
		}
		if known || l.options.Passed {
			if u.isRepository() {
				u.all = u.all || !known // nobody has looked what it reads
				return
			}
		}
		one.inspected = 1
		// What is compiled there is compiled again when it is asked about.
		failure := recovered("loading "+unitName(u), func() error {
			if err := one.inspectApart(ctx, u); err != nil || u.isRepository() || len(one.errors) > 0 {
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

func unitName(u *unit) string {
	if u.isRepository() {
		return "repository " + u.repository
	}
	return "the organization's policy"
}

// units are all units that have a file.
func (l *loader) units() []*unit {
	var units []*unit
	if len(l.organization.sources) > 0 {
		units = append(units, l.organization)
	}
	return append(units, l.repositories...)
}

// inspect parses, checks and compiles one unit, and reports what is wrong. The
// program is nil if anything is.
func (l *loader) inspect(u *unit) *program {
	before := len(l.errors)
	deciding, tests := l.parseUnit(u)
	l.checkWritten(u, deciding, tests)
	// What the checks of names and shapes refuse would only be repeated, in
	// other words, by the compiler.
	if len(l.errors) > before {
		return nil
	}
	p, resolved, errs := l.compile(u, deciding, true)
	l.fromOPA(errs)
	if resolved != nil {
		u.reads, u.all = nil, false
		u.noteReads(resolved, l.libraryModules)
		l.checkResolved(u, resolved)
		l.checkMeaning(u, deciding, resolved, p)
	}
	if len(tests) > 0 && len(l.errors) == before {
		all := make(map[string]*ast.Module, len(deciding)+len(tests))
		for path, m := range deciding {
			all[path] = m
		}
		for path, m := range tests {
			all[path] = m
		}
		together, resolved, errs := l.compile(u, all, true)
		l.fromOPA(errs)
		if resolved != nil {
			u.noteReads(resolved, l.libraryModules)
			l.checkTestReads(u, resolved, tests)
			l.report(check.TestFiles(l.view(u, deciding, resolved), u.testPkg(), resolved, sortedKeys(tests)))
		}
		if together != nil {
			l.report(check.IdleTests(together.compiler.Modules, sortedKeys(tests)))
		}
	}
	if len(l.errors) > before {
		return nil
	}
	if err := p.warmUp(l.libraryModules); err != nil && l.runs(checkEnds) && !l.options.Recorded {
		l.fail(asError(err))
		return nil
	}
	return p
}

// parseUnit parses a unit's files and reports what does not parse.
func (l *loader) parseUnit(u *unit) (deciding, tests map[string]*ast.Module) {
	deciding, tests = map[string]*ast.Module{}, map[string]*ast.Module{}
	for _, s := range u.sources {
		u.mark(s.path)
		module, err := l.parse(s)
		if err != nil {
			l.fromOPA(err)
			continue
		}
		if s.test {
			tests[s.path] = module
		} else {
			deciding[s.path] = module
		}
	}
	worker.SetMark(0)
	return deciding, tests
}

// parse parses one file. Every error has a place, the file's beginning if OPA
// knows no better.
func (l *loader) parse(s source) (module *ast.Module, err error) {
	err = recovered("parsing", func() (err error) {
		module, err = ast.ParseModuleWithOpts(s.path, strings.TrimPrefix(string(s.content), document.ByteOrderMark), ast.ParserOptions{Capabilities: l.capabilities(), RegoVersion: ast.RegoV1})
		return err
	})
	beginning := ast.NewLocation(nil, s.path, 1, 1)
	switch errs, ok := err.(ast.Errors); {
	case ok:
		for _, e := range errs {
			if e.Location == nil {
				e.Location = beginning
			}
			e.Details = sourceLine(document.Line(s.content, e.Location.Row))
		}
	case err != nil && !strings.HasSuffix(err.Error(), "empty module"):
		err = &ast.Error{Message: err.Error(), Location: beginning}
	case module == nil:
		err = &ast.Error{Message: "the file is empty", Location: beginning}
	}
	return module, err
}

func (l *loader) capabilities() *ast.Capabilities {
	if !l.runs(checkCapabilities) {
		return ast.CapabilitiesForThisVersion()
	}
	return capabilities()
}

// fromOPA takes over the errors of OPA's parser and compiler.
func (l *loader) fromOPA(err error) {
	switch err := err.(type) {
	case nil:
	case ast.Errors:
		for _, e := range err {
			l.fromOPA(e)
		}
	case *ast.Error:
		if err == nil {
			return
		}
		message, hint := explain(err)
		l.fail(at(err.Location, nil, message, hint))
	default:
		l.fail(Error{Message: err.Error()})
	}
}

// explain puts an error of OPA's into the author's words where that helps.
func explain(err *ast.Error) (message, hint string) {
	message = err.Message
	if name, ok := strings.CutPrefix(message, "undefined function "); ok {
		if why := whyRemoved(name); why != "" {
			return name + " is not available in a policy", why
		}
	}
	if field, ok := strings.CutPrefix(message, "undefined ref: "); ok && strings.HasPrefix(field, "input.") {
		hint = unknownField(field)
		return field + " is not in the input", hint
	}
	if strings.HasPrefix(message, "undefined ref: data.") {
		return message, "no rule or package of that name can be read here"
	}
	if do := remedy(err); do != "" {
		return message, do
	}
	if err.Details != nil {
		if lines := err.Details.Lines(); len(lines) > 0 {
			kept := slices.DeleteFunc(slices.Clone(lines), func(s string) bool { return strings.TrimSpace(s) == "" })
			hint = strings.Join(strings.Fields(strings.Join(kept, " ")), " ")
		}
	}
	if len(hint) > 300 {
		hint = hint[:300]
	}
	return message, hint
}

// unknownField names the field of the input that was probably meant.
func unknownField(ref string) string {
	parts := strings.Split(strings.TrimPrefix(ref, "input."), ".")
	fields := inputFields()
	for i := range parts {
		parent := strings.Join(parts[:i], ".")
		known := fields[parent]
		if slices.Contains(known, parts[i]) {
			continue
		}
		if len(known) == 0 {
			return fmt.Sprintf("input.%s is a single value", parent)
		}
		if n := nearest.Of(parts[i], known); n != "" {
			return "did you mean input." + strings.Join(append(parts[:i:i], n), ".") + "?"
		}
		return strings.TrimSuffix("input."+parent, ".") + " has " + strings.Join(known, ", ")
	}
	return ""
}
