package policycmd

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/destination"
	"github.com/sallyport/sallyport/internal/nearest"
	"github.com/sallyport/sallyport/internal/uuid"
	"github.com/sallyport/sallyport/policy"
)

// unknownUUID stands for a UUID that was not given.
const unknownUUID = "00000000-0000-0000-0000-000000000000"

// PrincipalKeys are the keys that --as accepts.
var PrincipalKeys = []string{"repository", "project", "workspace", "deployment", "deployment_type", "branch",
	"workspace_uuid", "repository_uuid", "deployment_uuid", "pipeline_uuid", "step_uuid"}

// parsePrincipal reads --as: pairs such as
// repository=acme/payments,deployment=production,branch=main.
func parsePrincipal(given string) (*identity.Principal, error) {
	if given == "" {
		return nil, errors.New("--as is missing: write --as repository=acme/payments,deployment=production,branch=main")
	}
	values, err := parsePairs(given)
	if err != nil {
		return nil, err
	}
	uuid := func(key string) string {
		if values[key] != "" {
			return values[key]
		}
		return unknownUUID
	}
	if values["repository"] == "" && values["repository_uuid"] == "" {
		return nil, errors.New("--as names no repository: write repository=acme/payments")
	}
	slug, _, full := strings.Cut(values["repository"], "/")
	if values["repository"] != "" && !full {
		return nil, fmt.Errorf("--as: repository=%s is not a full name: write workspace/repository, such as acme/payments", values["repository"])
	}
	if values["workspace"] == "" {
		values["workspace"] = slug
	}
	p := &identity.Principal{
		Kind:       identity.KindBitbucketStep,
		Workspace:  identity.Workspace{UUID: uuid("workspace_uuid"), Slug: values["workspace"]},
		Repository: identity.Repository{UUID: uuid("repository_uuid"), FullName: values["repository"], Project: values["project"]},
		Pipeline:   identity.Run{UUID: uuid("pipeline_uuid")},
		Step:       identity.Run{UUID: uuid("step_uuid")},
		Branch:     values["branch"],
	}
	p.Deployment = deploymentOf(values["deployment"], values["deployment_type"], values["deployment_uuid"])
	return p, nil
}

// parsePairs reads the pairs of --as.
func parsePairs(given string) (map[string]string, error) {
	values := map[string]string{}
	for word := range strings.SplitSeq(given, ",") {
		key, value, ok := strings.Cut(strings.TrimSpace(word), "=")
		switch {
		case !ok || value == "":
			return nil, fmt.Errorf("--as: %q is not key=value: write repository=acme/payments,deployment=production,branch=main", word)
		case !slices.Contains(PrincipalKeys, key):
			hint := "it takes " + strings.Join(PrincipalKeys, ", ")
			if i := slices.IndexFunc(PrincipalKeys, func(k string) bool { return key != "" && strings.HasPrefix(k, key) }); i >= 0 {
				hint = "did you mean " + PrincipalKeys[i] + "?"
			} else if n := nearest.Of(key, PrincipalKeys); n != "" {
				hint = "did you mean " + n + "?"
			}
			return nil, fmt.Errorf("--as has no key %q: %s", key, hint)
		case values[key] != "":
			return nil, fmt.Errorf("--as: %s is given twice", key)
		}
		if strings.HasSuffix(key, "_uuid") {
			uuid, ok := uuid.Parse(value)
			if !ok {
				return nil, fmt.Errorf("--as: %s=%s is not a UUID", key, value)
			}
			value = uuid
		}
		if err := checkPrincipalValue(key, value); err != nil {
			return nil, err
		}
		values[key] = value
	}
	return values, nil
}

// deploymentOf makes the deployment of a principal; nil if none is given.
func deploymentOf(name, kind, uuid string) *identity.Deployment {
	if name == "" && uuid == "" && kind == "" {
		return nil
	}
	name, uuid = cmp.Or(name, kind), cmp.Or(uuid, unknownUUID)
	d := &identity.Deployment{UUID: uuid, Name: name, Slug: strings.ToLower(strings.ReplaceAll(name, " ", "-")), Type: kind}
	// Bitbucket's three types are also what most environments are called.
	if d.Type == "" && slices.Contains(DeploymentTypes, d.Slug) {
		d.Type = d.Slug
	}
	return d
}

// DeploymentTypes are the types of deployment environments in Bitbucket.
var DeploymentTypes = []string{"test", "staging", "production"}

// checkPrincipalValue refuses a value that no step has: the evaluation would have no
// meaning.
func checkPrincipalValue(key, value string) error {
	switch lower := strings.ToLower(value); {
	case (key == "repository" || key == "workspace") && lower != value:
		return fmt.Errorf("--as: %s=%s: slugs are in lower case: write %s=%s", key, value, key, lower)
	case key == "branch" && strings.HasPrefix(value, "refs/"):
		return fmt.Errorf("--as: branch=%s: a branch has no refs/heads/ before it: write branch=%s", value, strings.TrimPrefix(value, "refs/heads/"))
	case key == "deployment_type" && !slices.Contains(DeploymentTypes, value):
		return fmt.Errorf("--as: deployment_type=%s: no deployment has this type: write one of %s", value, strings.Join(DeploymentTypes, ", "))
	}
	return nil
}

// requestFlags is the request that --to, --method, --path and --header describe.
type requestFlags struct {
	to, method, path string
	headers          []string
}

// request makes the question of a principal.
func (a requestFlags) request(p *identity.Principal, at time.Time) (*policy.Request, error) {
	r := &policy.Request{Principal: p, Action: policy.Connect, ClientAddress: netip.IPv4Unspecified(), Time: at.UTC().Truncate(time.Microsecond)}
	port := "443"
	if a.method != "" || a.path != "" || len(a.headers) > 0 {
		if a.method == "" {
			a.method = "GET"
		}
		if a.path == "" {
			a.path = "/"
		}
		if !strings.HasPrefix(a.path, "/") || strings.ContainsAny(a.path, "?#") {
			return nil, fmt.Errorf("--path %s: a path begins with / and has no query", a.path)
		}
		if upper := strings.ToUpper(a.method); upper != a.method {
			return nil, fmt.Errorf("--method %s: methods are in capitals: write %s", a.method, upper)
		}
		r.Action, port = policy.Forward, "80"
		r.HTTP = &policy.HTTPRequest{Method: a.method, Path: a.path, Headers: map[string]string{}}
		for _, h := range a.headers {
			name, value, ok := strings.Cut(h, "=")
			if !ok {
				return nil, fmt.Errorf("--header %s: write name=value", h)
			}
			r.HTTP.Headers[strings.ToLower(name)] = value
		}
	}
	var err error
	if r.Target, err = parseTarget(a.to, port); err != nil {
		return nil, err
	}
	if r.HTTP != nil {
		r.Target.Scheme = "http"
	}
	return r, nil
}

// parseTarget reads host:port, or a host, which means the port given.
func parseTarget(to, port string) (destination.Target, error) {
	if to == "" {
		return destination.Target{}, errors.New("--to is missing: write --to api.partner.example:443")
	}
	rest := to
	if i := strings.LastIndexByte(to, ']'); i >= 0 {
		rest = to[i:]
	}
	if !strings.Contains(rest, ":") {
		to += ":" + port
	}
	t, err := destination.ParseAuthority(to)
	if err != nil {
		return t, fmt.Errorf("--to: %w", err)
	}
	return t, nil
}
