package rego

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/policy/rego/canonical"
	"github.com/sallyport/sallyport/policy/rego/paths"
)

// principalPart is the part of the input that a principal determines. A
// principal is immutable, so it is made once. Safe for concurrent use.
type principalPart struct {
	principal  identity.Principal // with the names that the input has
	json       []byte
	repository string
	missing    []string

	once     sync.Once
	term     *ast.Term                    // made for the first evaluation
	selected atomic.Pointer[selectedPart] // the latest
}

// selectedPart is the JSON of the parts of a principal that a policy may read.
type selectedPart struct {
	parts *paths.Tree
	key   []byte
}

// newPrincipalPart is an error if a name or UUID is missing by which policies apply: an
// unknown repository must not be treated as one without rules.
func newPrincipalPart(p *identity.Principal, names bool) (*principalPart, error) {
	if p.Workspace.UUID == "" || p.Repository.UUID == "" {
		return nil, errors.New("the principal has no workspace or no repository")
	}
	part := &principalPart{principal: *p, repository: p.Repository.FullName}
	of := &part.principal
	if !names {
		of.Workspace.Slug, of.Repository.FullName, of.Repository.Project = "", "", ""
		if p.Deployment != nil {
			of.Deployment = &identity.Deployment{UUID: p.Deployment.UUID}
		}
		part.repository = p.Workspace.UUID + "/" + p.Repository.UUID
	}
	w := &canonical.Writer{NoValue: true}
	part.write(w)
	_, part.json = w.End()
	if !names {
		return part, nil
	}
	if d := of.Deployment; d != nil {
		part.missing = namesMissing("principal.deployment", d.Name, "name", d.Slug, "slug", d.Type, "type")
	}
	part.missing = append(part.missing, namesMissing("principal.workspace", of.Workspace.Slug, "slug")...)
	part.missing = append(part.missing, namesMissing("principal.repository", of.Repository.FullName, "full_name", of.Repository.Project, "project")...)
	return part, nil
}

// write writes the members of the object.
func (p *principalPart) write(w *canonical.Writer) {
	of := &p.principal
	w.Text("kind", of.Kind)
	w.Object("workspace", func() {
		w.Text("uuid", of.Workspace.UUID)
		w.Optional("slug", of.Workspace.Slug)
	})
	w.Object("repository", func() {
		w.Text("uuid", of.Repository.UUID)
		w.Optional("full_name", of.Repository.FullName)
		w.Optional("project", of.Repository.Project)
	})
	if d := of.Deployment; d != nil {
		w.Object("deployment", func() {
			w.Text("uuid", d.UUID)
			w.Optional("name", d.Name)
			w.Optional("slug", d.Slug)
			w.Optional("type", d.Type)
		})
	}
	w.Object("pipeline", func() { w.Text("uuid", of.Pipeline.UUID) })
	w.Object("step", func() { w.Text("uuid", of.Step.UUID) })
	w.Optional("branch", of.Branch)
}

// writeTo writes the object as a member of an input.
func (p *principalPart) writeTo(w *canonical.Writer) {
	const name = "principal"
	var key []byte
	if below := w.Reads.Below(name); below != nil {
		key = p.keyOf(below)
	}
	var term *ast.Term
	if !w.NoValue {
		term = p.value()
	}
	w.Raw(name, term, p.json, key)
}

func (p *principalPart) value() *ast.Term {
	p.once.Do(func() {
		w := &canonical.Writer{NoJSON: true}
		p.write(w)
		p.term, _ = w.End()
	})
	return p.term
}

// keyOf returns the JSON of some parts.
func (p *principalPart) keyOf(parts *paths.Tree) []byte {
	if s := p.selected.Load(); s != nil && s.parts == parts {
		return s.key
	}
	w := &canonical.Writer{NoValue: true, Reads: parts}
	p.write(w)
	w.End()
	p.selected.Store(&selectedPart{parts, w.Key()})
	return w.Key()
}

// namesMissing lists the names without a value. pairs alternate values and names.
func namesMissing(prefix string, pairs ...string) (missing []string) {
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i] == "" {
			missing = append(missing, prefix+"."+pairs[i+1])
		}
	}
	return missing
}
