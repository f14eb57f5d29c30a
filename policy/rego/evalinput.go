package rego

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/rego/canonical"
	"github.com/sallyport/sallyport/policy/rego/document"
	"github.com/sallyport/sallyport/policy/rego/functions"
	"github.com/sallyport/sallyport/policy/rego/paths"
)

// evalInput is the input of one evaluation in its two forms: the value that is evaluated
// and the bytes that are kept. One function writes both, from the same cleaned strings.
// It is for one goroutine.
type evalInput struct {
	domain     *domain
	term       *ast.Term // nil: it is made when it is needed, see value
	json       []byte
	key        []byte // the parts that the policy may read, as JSON; nil: they were not selected
	time       time.Time
	repository string // whose own policy is evaluated
	// repositoryUUID is of a delivery, which does not name its workspace's UUID.
	repositoryUUID string
	missing        []string // the names without a value whose object exists
	address        bool     // the target is an IP literal
	host           string   // of the target, for messages

	request *policy.Request // of which the value is made
	part    *principalPart

	everyRule  bool           // evaluate also the rules that an index leaves out, to trace them
	exceptions []*ast.Term    // the exceptions that the library found for it
	span       functions.Span // the time in which the evaluations so far have the same results
	worker     bool           // a worker has evaluated a part
}

// newEvalInput makes the canonical input of a request. selected are the parts of it that
// its key has; nil: no key is needed.
func newEvalInput(r *policy.Request, part *principalPart, selected *paths.Tree) *evalInput {
	in := &evalInput{
		domain: egress,
		time:   r.Time.UTC().Truncate(time.Microsecond), repository: part.repository,
		missing: part.missing, address: r.Target.IsAddress(), host: r.Target.Host,
		request: r, part: part,
	}
	w := &canonical.Writer{NoValue: true, Reads: selected}
	in.write(w)
	_, in.json = w.End()
	in.key = w.Key()
	return in
}

// value returns the value that is evaluated.
func (in *evalInput) value() *ast.Term {
	if in.term == nil {
		w := &canonical.Writer{NoJSON: true}
		in.write(w)
		in.term, _ = w.End()
	}
	return in.term
}

// write writes the input of a request.
func (in *evalInput) write(w *canonical.Writer) {
	r := in.request
	in.part.writeTo(w)
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

// requireNames is an error if a policy reads a name that the input lacks.
func (in *evalInput) requireNames(policy string, reads []string) error {
	for _, name := range in.missing {
		if _, is := slices.BinarySearch(reads, name); is {
			return fmt.Errorf("policy: %s reads input.%s, which is not known", policy, name)
		}
	}
	return nil
}
