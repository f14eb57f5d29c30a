// Package check holds static checks over a read-only view of a unit: the rules of
// the organization or of one repository, with the documents that they read. A check
// finds valid Rego or YAML that is certainly or probably a mistake, such as a control
// that is never in force.
//
// Nothing is evaluated. Each check takes time in proportion to the size of the
// files, because repositories' files are not trusted.
package check

import (
	"cmp"
	"slices"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Finding is one fault of a unit.
type Finding struct {
	File         string
	Line, Column int    // from 1; 0 where the whole file is meant
	Message      string // what is wrong
	Hint         string // what to write instead
	Warning      bool   // the unit loads all the same
}

// Subject is what the rules of a unit decide about.
type Subject uint8

// The subjects.
const (
	Requests   Subject = iota // requests of steps
	Deliveries                // webhook deliveries
)

// noun is one thing of the subject.
func (s Subject) noun() string {
	if s == Deliveries {
		return "delivery"
	}
	return "request"
}

// sender is what an input of the subject comes from.
func (s Subject) sender() string {
	if s == Deliveries {
		return "delivery"
	}
	return "step"
}

// example is the hint for a test that needs an input.
func (s Subject) example() string {
	if s == Deliveries {
		return `add: with input as {"receiver": …, "kind": "cloud", "event": "repo:push", "repository": …, "refs": […]}`
	}
	return `add: with input as {"principal": …, "action": "connect", "target": {"host": …, "port": 443}}`
}

// Unit is the read-only view of a unit: its rules, and the documents that they may read.
type Unit struct {
	Package      ast.Ref  // of the deciding files
	Sets         []string // that are read when a decision is made
	Organization bool     // not one repository's
	Subject      Subject

	// Resolved are the deciding files once OPA has resolved imports and the names of
	// rules: every reference to a rule or document begins with data.
	Resolved  map[string]*ast.Module
	Documents Documents
	Optional  []Optional
	// FieldType returns the type of a field of the input by its path: string, number or
	// object; "" if the input has no such field. nil: types are not known.
	FieldType func(path string) string
	// Fields returns the fields of an object of the input by its path, which is empty for
	// the input itself. nil: fields are not known.
	Fields func(path string) []string
	// Repositories are the full names of the existing repositories; nil if they are not
	// known.
	Repositories map[string]bool
	// Receivers, Endpoints and Resources are the configured names for deliveries; nil if they
	// are not known.
	Receivers, Endpoints, Resources []string

	// EntryValue returns the fault of a value of an entry's key, and a remedy; "" if
	// there is none. nil: values are not checked.
	EntryValue func(key string, value ast.Value) (message, hint string)

	// Compiled are the deciding files as they are evaluated, with the parts of the
	// library that they use. nil if they did not compile.
	Compiled map[string]*ast.Module

	keysRead map[string]bool // members that rules read, of other values than the input
}

// at is a finding at a location. OPA leaves some generated terms without one; fallback is
// the location of their rule.
func at(loc, fallback *ast.Location, message, hint string) Finding {
	if loc == nil || loc.Row == 0 {
		loc = fallback
	}
	f := Finding{Message: message, Hint: hint}
	if loc != nil {
		f.File, f.Line, f.Column = loc.File, max(1, loc.Row), max(1, loc.Col)
	}
	return f
}

// RuleName is the first part of a rule's reference: the name that the rule defines.
func RuleName(rule *ast.Rule) string {
	ref := rule.Head.Ref()
	if len(ref) == 0 {
		return ""
	}
	switch v := ref[0].Value.(type) {
	case ast.Var:
		return string(v)
	case ast.String:
		return string(v)
	}
	return ref[0].String()
}

// ownName is the rule of the unit's own package that a reference is to. whole is set for a
// reference to the package, or to a rule by a name that is not literal.
func (u *Unit) ownName(ref ast.Ref) (name string, whole, ok bool) {
	if !ref.HasPrefix(u.Package) {
		return "", false, false
	}
	if len(ref) == len(u.Package) {
		return "", true, true
	}
	s, literal := ref[len(u.Package)].Value.(ast.String)
	return string(s), !literal, true
}

// sortFindings brings findings into the order of files and lines.
func sortFindings(list []Finding) {
	slices.SortStableFunc(list, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), strings.Compare(a.Message, b.Message))
	})
}

// Optional is a part of the input that a request may lack.
type Optional struct {
	Path    string // below input
	Without string // what the request then is: a step that deploys nothing
}

// Documents are the documents that a unit may read, below data.
type Documents struct {
	Root ast.Object
	// Place returns the location of a path of names (string) and list indexes (int);
	// the file is empty if the location is not known.
	Place func(path []any) (file string, line, column int)
	Cache *Cache // nil: none
}

// Cache holds findings in documents, shared by all units that read the documents. The zero
// Cache is empty. Safe for concurrent use.
type Cache struct {
	mu    sync.Mutex
	found map[string][]Finding
}

// get returns what make finds, once for each key.
func (c *Cache) get(key string, make func() []Finding) []Finding {
	if c == nil {
		return make()
	}
	c.mu.Lock()
	list, ok := c.found[key]
	c.mu.Unlock()
	if ok {
		return list
	}
	list = make()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.found == nil {
		c.found = map[string][]Finding{}
	}
	c.found[key] = list
	return list
}
