package rego

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/internal/nearest"
	"github.com/sallyport/sallyport/policy/rego/check"
)

// checkSource checks the text of a unit's files: packages, definitions, and the form of
// the deciding rules.
func (l *loader) checkSource(u *part, deciding, tests map[string]*ast.Module) {
	for _, modules := range []map[string]*ast.Module{deciding, tests} {
		for _, path := range slices.Sorted(maps.Keys(modules)) {
			l.report(check.Nesting(modules[path]))
		}
	}
	ids := &ruleIDs{seen: map[string]place{}}
	for _, path := range slices.Sorted(maps.Keys(deciding)) {
		m := deciding[path]
		if l.runs(checkPackages) && !m.Package.Path.Equal(u.pkg()) {
			l.fail(at(m.Package.Location, nil, "package "+packageText(m.Package.Path)+" does not belong into this folder",
				"write: package "+packageText(u.pkg())))
			continue
		}
		for i, rule := range m.Rules {
			l.checkDefinition(u, rule)
			if name := check.RuleName(rule); u.domain.isSet(name) {
				l.checkSetRule(u, name, rule)
				if l.runs(checkIDs) {
					var previous *ast.Rule
					if i > 0 {
						previous = m.Rules[i-1]
					}
					l.checkUnique(ids, name, rule, previous)
				}
			}
		}
		l.checkImports(m)
	}
	for _, path := range slices.Sorted(maps.Keys(tests)) {
		l.checkTestFile(u, tests[path])
		l.checkImports(tests[path])
	}
}

// checkDefinition refuses a rule whose full reference is outside its package, or looks as
// if it were.
func (l *loader) checkDefinition(u *part, rule *ast.Rule) {
	if !l.runs(checkDefinitions) {
		return
	}
	full, name := rule.Ref(), check.RuleName(rule)
	switch {
	case !full.HasPrefix(u.pkg()) || len(full) <= len(u.pkg()):
		l.fail(at(rule.Head.Location, rule.Location, "the rule defines "+full.String()+", outside of its package", "a file defines rules of "+packageText(u.pkg())+" only"))
	case slices.Contains([]string{"data", "input", "sallyport", "egress", "repository", "webhook", "webhook_repository", "lib"}, name) && len(rule.Head.Ref()) > 1:
		l.fail(at(rule.Head.Location, rule.Location, "the rule defines "+full.String(),
			"a rule's name is relative to its package: write allow, deny or a name of its own"))
	case strings.HasPrefix(name, "test_"):
		l.fail(at(rule.Head.Location, rule.Location, "a test does not belong among the rules", "move "+name+" into a file whose name ends in _test.rego"))
	case u.domain.isSet(name) && !slices.Contains(u.sets(), name):
		l.fail(at(rule.Head.Location, rule.Location, "a repository's policy cannot define "+name, "only the organization can, in "+u.domain.folder+"/"))
	}
}

// checkImports refuses an import of data that must not be read, used or not.
func (l *loader) checkImports(m *ast.Module) {
	if !l.runs(checkReads) {
		return
	}
	for _, imp := range m.Imports {
		ref, ok := imp.Path.Value.(ast.Ref)
		if !ok || !ref.HasPrefix(ast.DefaultRootRef) {
			continue
		}
		if len(ref) == 1 {
			l.fail(at(imp.Location, nil, "import data brings in everything", "import what you read, such as data.hosts or data.sallyport.lib"))
		}
	}
}

// checkTestFile permits a test file to define tests, and fixtures that no policy can read.
// With a rule of the deciding package in a test file, tests would pass that fail with the
// policy in force, which does not have the file.
func (l *loader) checkTestFile(u *part, m *ast.Module) {
	own := m.Package.Path.Equal(u.pkg())
	if l.runs(checkPackages) && !own && !m.Package.Path.Equal(u.testPkg()) {
		l.fail(at(m.Package.Location, nil, "package "+packageText(m.Package.Path)+" does not belong into this test file",
			"write: package "+packageText(u.testPkg())))
		return
	}
	if !l.runs(checkTestsOnlyTest) {
		return
	}
	for _, rule := range m.Rules {
		name := check.RuleName(rule)
		switch {
		case strings.HasPrefix(name, "todo_test_"):
			l.fail(at(rule.Head.Location, rule.Location, "a test that is not run is not a test", "name it test_… or remove it"))
		case strings.HasPrefix(name, "test_"):
		case own:
			l.fail(at(rule.Head.Location, rule.Location, "a test file of package "+packageText(u.pkg())+" defines tests only, and "+name+" is none",
				"name it test_…, or move the file's tests and fixtures to package "+packageText(u.testPkg())))
		case u.domain.isSet(name):
			l.fail(at(rule.Head.Location, rule.Location, "a test file cannot define "+name, "rename the fixture"))
		}
	}
}

// checkSetRule checks one rule of allow, deny, report or delegate.
func (l *loader) checkSetRule(u *part, set string, rule *ast.Rule) {
	if !slices.Contains(u.sets(), set) {
		return // refused as a definition
	}
	head := rule.Head
	if l.runs(checkSets) && (len(head.Ref()) != 1 || len(head.Args) > 0 || rule.Default || head.Key == nil || head.Value != nil || rule.Else != nil) {
		l.fail(at(head.Location, rule.Location, set+" is a set of entries", fmt.Sprintf("write: %s contains {\"rule\": \"an-id\"} if { … }", set)))
		return
	}
	entry, ok := keyObject(head)
	if !ok {
		if l.runs(checkSets) {
			l.fail(at(head.Location, rule.Location, "an entry of "+set+" is written out as an object, so that its rule can be named before it decides",
				fmt.Sprintf("write: %s contains {\"rule\": \"an-id\"} if { … }", set)))
		}
		return
	}
	l.checkEntry(u.domain, set, rule, entry)
}

// checkEntry checks an entry's keys, and those of its values that are literal.
func (l *loader) checkEntry(d *domain, set string, rule *ast.Rule, entry ast.Object) {
	hasRule := false
	entry.Foreach(func(key, value *ast.Term) {
		name, ok := key.Value.(ast.String)
		if !ok {
			if l.runs(checkKeys) {
				l.fail(at(key.Location, rule.Location, "a key of an entry is a literal string", "write one of "+strings.Join(d.keys[set], ", ")))
			}
			return
		}
		if !slices.Contains(d.keys[set], string(name)) {
			if l.runs(checkKeys) {
				l.fail(at(key.Location, rule.Location, fmt.Sprintf("%s has no key %q", set, string(name)), keyHint(d, set, string(name))))
			}
			return
		}
		if name == "rule" {
			hasRule = true
			l.checkID(rule, value)
			return
		}
		if !value.IsGround() || check.ContainsRefs(value) {
			return // known only when it is evaluated, and checked then
		}
		if message := checkValue(string(name), value.Value); message != "" {
			l.fail(at(value.Location, rule.Location, string(name)+" "+message, valueHint[string(name)]))
		}
	})
	if set == setRoute && l.runs(checkKeys) {
		l.checkRoute(rule, entry)
	}
	if !hasRule && l.runs(checkIDs) {
		l.fail(at(rule.Head.Location, rule.Location, "the entry has no rule id", `add "rule": "an-id", which the log will name`))
	}
}

func keyHint(d *domain, set, name string) string {
	for _, other := range []string{setAllow, setDeny, setRoute} {
		if other != set && slices.Contains(d.keys[other], name) {
			return "only " + other + " has it"
		}
	}
	if n := nearest.Of(name, d.keys[set]); n != "" {
		return fmt.Sprintf("did you mean %q?", n)
	}
	return "it may have " + strings.Join(d.keys[set], ", ")
}

const maxIDBytes = 128

func (l *loader) checkID(rule *ast.Rule, value *ast.Term) {
	if !l.runs(checkIDs) {
		return
	}
	id, ok := value.Value.(ast.String)
	switch {
	case !ok:
		l.fail(at(value.Location, rule.Location, "a rule id is a literal string", "write the id itself; what varies belongs into message"))
	case !validID(string(id)):
		l.fail(at(value.Location, rule.Location, fmt.Sprintf("%q is not a rule id", string(id)), "write 1 to 128 letters, digits and any of - _ . : /, beginning with a letter or digit"))
	}
}

func validID(s string) bool {
	if s == "" || len(s) > maxIDBytes {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case i > 0 && strings.IndexByte("-_.:/", c) >= 0:
		default:
			return false
		}
	}
	return true
}

// ruleIDs remembers where each id of a unit was defined.
type ruleIDs struct{ seen map[string]place }

type place struct {
	rule     *ast.Rule
	location *ast.Location
}

// checkUnique refuses an id that another rule of the same set has. The bodies of
// one rule share it: statements with the same head, one right after the other.
func (l *loader) checkUnique(ids *ruleIDs, set string, rule, previous *ast.Rule) {
	entry, ok := keyObject(rule.Head)
	if !ok {
		return
	}
	value := entry.Get(ast.StringTerm("rule"))
	if value == nil {
		return
	}
	id, ok := value.Value.(ast.String)
	if !ok {
		return
	}
	key := set + "\x00" + string(id)
	first, ok := ids.seen[key]
	if !ok {
		ids.seen[key] = place{rule, rule.Head.Location}
		return
	}
	if previous != nil && previous.Head.Key != nil && check.RuleName(previous) == set && previous.Head.Key.Equal(rule.Head.Key) {
		return
	}
	l.fail(at(value.Location, rule.Location, fmt.Sprintf("the id %q is in use at %s:%d", string(id), first.location.File, first.location.Row),
		"choose another id, or put the bodies of one rule, with the same head, right after one another"))
}
