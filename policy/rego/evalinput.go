package rego

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown/builtins"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/rego/canonical"
	"github.com/sallyport/sallyport/policy/rego/document"
)

// evalInput is the input of one evaluation in its two forms: the value that is evaluated
// and the bytes that are kept. One function writes both, from the same cleaned strings.
type evalInput struct {
	domain     *domain
	term       *ast.Term
	json       []byte
	time       time.Time
	repository string // whose own policy is evaluated
	// repositoryUUID is of a delivery, which does not name its workspace's UUID.
	repositoryUUID string
	missing        []string // the names without a value whose object exists
	address        bool     // the target is an IP literal
	host           string   // of the target, for messages

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
	w := &canonical.Writer{}
	w.Text("kind", p.Kind)
	workspace, repository := p.Workspace, p.Repository
	if !names {
		workspace.Slug, repository.FullName, repository.Project = "", "", ""
	}
	w.Object("workspace", func() {
		w.Text("uuid", workspace.UUID)
		w.Optional("slug", workspace.Slug)
	})
	w.Object("repository", func() {
		w.Text("uuid", repository.UUID)
		w.Optional("full_name", repository.FullName)
		w.Optional("project", repository.Project)
	})
	if d := p.Deployment; d != nil {
		deployment := *d
		if !names {
			deployment = identity.Deployment{UUID: d.UUID}
		}
		w.Object("deployment", func() {
			w.Text("uuid", deployment.UUID)
			w.Optional("name", deployment.Name)
			w.Optional("slug", deployment.Slug)
			w.Optional("type", deployment.Type)
		})
		part.missing = namesMissing("principal.deployment", deployment.Name, "name", deployment.Slug, "slug", deployment.Type, "type")
	}
	w.Object("pipeline", func() { w.Text("uuid", p.Pipeline.UUID) })
	w.Object("step", func() { w.Text("uuid", p.Step.UUID) })
	w.Optional("branch", p.Branch)
	part.term, part.json = w.End()

	part.missing = append(part.missing, namesMissing("principal.workspace", workspace.Slug, "slug")...)
	part.missing = append(part.missing, namesMissing("principal.repository", repository.FullName, "full_name", repository.Project, "project")...)
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
		domain: egress,
		time:   r.Time.UTC().Truncate(time.Microsecond), repository: part.repository,
		missing: part.missing, address: r.Target.IsAddress(), host: r.Target.Host,
	}
	w := &canonical.Writer{}
	w.Raw("principal", part.term, part.json)
	w.Text("action", string(r.Action))
	w.Object("target", func() {
		w.Optional("scheme", r.Target.Scheme)
		w.Text("host", r.Target.Host)
		w.Number("port", int64(r.Target.Port))
	})
	if h := r.HTTP; h != nil {
		w.Object("request", func() {
			w.Text("method", h.Method)
			w.Text("path", h.Path)
			w.Object("headers", func() {
				for _, name := range slices.Sorted(maps.Keys(h.Headers)) {
					w.Text(name, h.Headers[name])
				}
			})
		})
	}
	w.Object("client", func() {
		address := ""
		if r.ClientAddress.IsValid() {
			address = r.ClientAddress.String()
		}
		w.Text("address", address)
	})
	w.Text("time", in.time.Format(canonical.TimeLayout))
	in.term, in.json = w.End()
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
	in := &evalInput{domain: egress, term: n.Term(), json: input}
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
	if n.Object["receiver"] != nil {
		in.recordedDelivery(get)
		return in, nil
	}
	in.host = get("target", "host")
	_, err = netip.ParseAddr(in.host)
	in.address = err == nil
	if in.repository = get("principal", "repository", "full_name"); !names {
		in.repository = get("principal", "workspace", "uuid") + "/" + get("principal", "repository", "uuid")
	}
	if names {
		for _, path := range egress.names {
			parts := splitPath(path)
			if get(parts...) == "" && get(parts[0], parts[1], "uuid") != "" {
				in.missing = append(in.missing, path)
			}
		}
	}
	return in, nil
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

// requireNames is an error if a policy reads a name that the input lacks.
func (in *evalInput) requireNames(policy string, reads []string) error {
	for _, name := range in.missing {
		if _, is := slices.BinarySearch(reads, name); is {
			return fmt.Errorf("policy: %s reads input.%s, which is not known", policy, name)
		}
	}
	return nil
}
