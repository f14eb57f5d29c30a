package rego

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown/builtins"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/rego/document"
)

// timeLayout is RFC 3339 in UTC with up to six digits of a second.
const timeLayout = "2006-01-02T15:04:05.999999Z"

// evalInput is the input of one evaluation in its two forms: the value that is evaluated
// and the bytes that are kept. One function writes both, from the same cleaned strings.
type evalInput struct {
	term       *ast.Term
	json       []byte
	time       time.Time
	repository string   // whose own policy is evaluated
	missing    []string // the namePaths without a value whose object exists
	address    bool     // the target is an IP literal
	host       string   // of the target, for messages

	everyRule     bool              // evaluate also the rules that an index leaves out, to trace them
	clock         builtins.NDBCache // reads of the clock are recorded here; nil: they are not
	exceptions    []*ast.Term       // the exceptions that the library found for it
	timeDependent bool              // an allow that was checked has an end, so that the time matters
}

// principalPart is the part of the input that a principal determines. A
// principal is immutable, so it is made once.
type principalPart struct {
	term       *ast.Term
	json       []byte
	repository string
	missing    []string
}

// newPrincipalPart is an error if a name or UUID is missing by which policies apply: an
// unknown repository must not be treated as one without rules.
func newPrincipalPart(p *identity.Principal, names bool) (*principalPart, error) {
	part := &principalPart{}
	w := &writer{}
	w.text("kind", p.Kind)
	workspace, repository := p.Workspace, p.Repository
	if !names {
		workspace.Slug, repository.FullName, repository.Project = "", "", ""
	}
	w.object("workspace", func() {
		w.text("uuid", workspace.UUID)
		w.optional("slug", workspace.Slug)
	})
	w.object("repository", func() {
		w.text("uuid", repository.UUID)
		w.optional("full_name", repository.FullName)
		w.optional("project", repository.Project)
	})
	if d := p.Deployment; d != nil {
		deployment := *d
		if !names {
			deployment = identity.Deployment{UUID: d.UUID}
		}
		w.object("deployment", func() {
			w.text("uuid", deployment.UUID)
			w.optional("name", deployment.Name)
			w.optional("slug", deployment.Slug)
			w.optional("type", deployment.Type)
		})
		part.missing = w.missing("principal.deployment", deployment.Name, "name", deployment.Slug, "slug", deployment.Type, "type")
	}
	w.object("pipeline", func() { w.text("uuid", p.Pipeline.UUID) })
	w.object("step", func() { w.text("uuid", p.Step.UUID) })
	w.optional("branch", p.Branch)
	part.term, part.json = w.end()

	part.missing = append(part.missing, w.missing("principal.workspace", workspace.Slug, "slug")...)
	part.missing = append(part.missing, w.missing("principal.repository", repository.FullName, "full_name", repository.Project, "project")...)
	part.repository = repository.FullName
	if !names {
		part.missing = nil
		part.repository = p.Workspace.UUID + "/" + p.Repository.UUID
	}
	if p.Workspace.UUID == "" || p.Repository.UUID == "" {
		return nil, errors.New("the principal has no workspace or no repository")
	}
	return part, nil
}

// newEvalInput makes the canonical input of a request.
func newEvalInput(r *policy.Request, part *principalPart) *evalInput {
	in := &evalInput{
		time: r.Time.UTC().Truncate(time.Microsecond), repository: part.repository,
		missing: part.missing, address: r.Target.IsAddress(), host: r.Target.Host,
	}
	w := &writer{}
	w.raw("principal", part.term, part.json)
	w.text("action", string(r.Action))
	w.object("target", func() {
		w.optional("scheme", r.Target.Scheme)
		w.text("host", r.Target.Host)
		w.number("port", int64(r.Target.Port))
	})
	if h := r.HTTP; h != nil {
		w.object("request", func() {
			w.text("method", h.Method)
			w.text("path", h.Path)
			w.object("headers", func() {
				for _, name := range slices.Sorted(maps.Keys(h.Headers)) {
					w.text(name, h.Headers[name])
				}
			})
		})
	}
	w.object("client", func() {
		address := ""
		if r.ClientAddress.IsValid() {
			address = r.ClientAddress.String()
		}
		w.text("address", address)
	})
	w.text("time", in.time.Format(timeLayout))
	in.term, in.json = w.end()
	return in
}

// recordedInput reads a recorded input.
func recordedInput(input []byte, names bool) (*evalInput, error) {
	n, err := document.ParseJSON(input)
	if err != nil {
		return nil, fmt.Errorf("the recorded input: %w", err)
	}
	if n == nil || n.Object == nil {
		return nil, errors.New("the recorded input is not an object")
	}
	in := &evalInput{term: n.Term(), json: input}
	get := func(path ...string) string {
		at := n
		for _, p := range path {
			if at = at.Object[p]; at == nil {
				return ""
			}
		}
		s, _ := at.Term().Value.(ast.String)
		return string(s)
	}
	if in.time, err = time.Parse(time.RFC3339, get("time")); err != nil {
		return nil, fmt.Errorf("the recorded input has no time: %w", err)
	}
	in.host = get("target", "host")
	_, err = netip.ParseAddr(in.host)
	in.address = err == nil
	if in.repository = get("principal", "repository", "full_name"); !names {
		in.repository = get("principal", "workspace", "uuid") + "/" + get("principal", "repository", "uuid")
	}
	if names {
		for _, path := range namePaths {
			parts := splitPath(path)
			if get(parts...) == "" && get(parts[0], parts[1], "uuid") != "" {
				in.missing = append(in.missing, path)
			}
		}
	}
	return in, nil
}

// keyTerms are the names of the input's fields, made once.
var keyTerms = func() map[string]*ast.Term {
	terms := map[string]*ast.Term{}
	for _, name := range []string{"principal", "kind", "workspace", "repository", "deployment", "pipeline", "step", "branch",
		"uuid", "slug", "full_name", "project", "name", "type", "action", "target", "scheme", "host", "port",
		"request", "method", "path", "headers", "client", "address", "time"} {
		terms[name] = ast.StringTerm(name)
	}
	return terms
}()

func keyTerm(name string) *ast.Term {
	if t := keyTerms[name]; t != nil {
		return t
	}
	return ast.StringTerm(name) // a header
}

// writer builds an object as a value and as JSON at once, members in the order
// in which they are written.
type writer struct {
	levels []level
	json   []byte
}

type level struct {
	pairs [][2]*ast.Term
	open  bool
}

func (w *writer) top() *level {
	if len(w.levels) == 0 {
		w.levels = append(w.levels, level{pairs: make([][2]*ast.Term, 0, 8)})
		w.json = append(make([]byte, 0, 1024), '{')
	}
	return &w.levels[len(w.levels)-1]
}

func (w *writer) key(name string) *level {
	l := w.top()
	if l.open {
		w.json = append(w.json, ',')
	}
	l.open = true
	w.json = appendString(w.json, name)
	w.json = append(w.json, ':')
	return l
}

func (w *writer) text(name, value string) {
	name, value = clean(name), clean(value)
	l := w.key(name)
	w.json = appendString(w.json, value)
	l.pairs = append(l.pairs, [2]*ast.Term{keyTerm(name), ast.StringTerm(value)})
}

func (w *writer) optional(name, value string) {
	if value != "" {
		w.text(name, value)
	}
}

func (w *writer) number(name string, value int64) {
	l := w.key(name)
	w.json = strconv.AppendInt(w.json, value, 10)
	l.pairs = append(l.pairs, [2]*ast.Term{keyTerm(name), ast.InternedTerm(int(value))})
}

func (w *writer) raw(name string, value *ast.Term, json []byte) {
	l := w.key(name)
	w.json = append(w.json, json...)
	l.pairs = append(l.pairs, [2]*ast.Term{keyTerm(name), value})
}

func (w *writer) object(name string, members func()) {
	w.key(name)
	w.json = append(w.json, '{')
	w.levels = append(w.levels, level{pairs: make([][2]*ast.Term, 0, 4)})
	members()
	inner := w.top().pairs
	w.levels = w.levels[:len(w.levels)-1]
	w.json = append(w.json, '}')
	l := w.top()
	l.pairs = append(l.pairs, [2]*ast.Term{keyTerm(name), ast.ObjectTerm(inner...)})
}

func (w *writer) end() (*ast.Term, []byte) {
	l := w.top()
	return ast.ObjectTerm(l.pairs...), append(w.json, '}')
}

// missing lists the names without a value. pairs alternate values and names.
func (w *writer) missing(prefix string, pairs ...string) (missing []string) {
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i] == "" {
			missing = append(missing, prefix+"."+pairs[i+1])
		}
	}
	return missing
}

// requireNames is an error if a policy reads a name that the input lacks.
func (in *evalInput) requireNames(policy string, reads []string) error {
	for _, name := range in.missing {
		if _, is := slices.BinarySearch(reads, name); is {
			return fmt.Errorf("policy: %s reads input.%s, which is not known", policy, name)
		}
	}
	return nil
}
