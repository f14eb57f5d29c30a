package bitbuckettest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

type route struct {
	pattern  string // below /2.0/; * is one part
	endpoint Endpoint
	handle   func(*Server, *call) answer
}

var routes = []route{
	{"workspaces/*/pipelines-config/identity/oidc/.well-known/openid-configuration", Discovery, (*Server).getDiscovery},
	{"workspaces/*/pipelines-config/identity/oidc/keys.json", Keys, (*Server).getKeys},
	{"workspaces/*", WorkspaceGet, (*Server).getWorkspace},
	{"repositories/*", RepositoryList, (*Server).listRepositories},
	{"repositories/*/*", RepositoryGet, (*Server).getRepository},
	{"repositories/*/*/environments", EnvironmentList, (*Server).listEnvironments},
	{"repositories/*/*/environments/*", EnvironmentGet, (*Server).getEnvironment},
	{"repositories/*/*/pipelines", PipelineList, (*Server).listPipelines},
	{"repositories/*/*/pipelines/*", PipelineGet, (*Server).getPipeline},
	{"repositories/*/*/pipelines/*/steps", StepList, (*Server).listSteps},
	{"repositories/*/*/pipelines/*/steps/*", StepGet, (*Server).getStep},
	{"repositories/*/*/commit/*/pullrequests", CommitPullRequests, (*Server).listCommitPullRequests},
	{"repositories/*/*/pullrequests", PullRequestList, (*Server).listPullRequests},
	{"repositories/*/*/pullrequests/*", PullRequestGet, (*Server).getPullRequest},
	{"repositories/*/*/pullrequests/*/commits", PullRequestCommits, (*Server).listPullRequestCommits},
	{"repositories/*/*/deployments", DeploymentList, (*Server).listDeployments},
	{"repositories/*/*/deployments/*", DeploymentGet, (*Server).getDeployment},
	{"repositories/*/*/hooks", Hooks, (*Server).repositoryHooks},
	{"repositories/*/*/hooks/*", Hooks, (*Server).repositoryHooks},
	{"repositories/*/*/commit/*/reports/*", Reports, (*Server).reports},
	{"repositories/*/*/commit/*/reports/*/annotations", Reports, (*Server).annotations},
	{"workspaces/*/hooks", Hooks, (*Server).workspaceHooks},
	{"workspaces/*/hooks/*", Hooks, (*Server).workspaceHooks},
}

// routeRequest finds the endpoint. It reads the path as it was sent: ServeMux
// would clean it, and decode the braces that Bitbucket wants encoded.
func (s *Server) routeRequest(r *http.Request) *call {
	c := &call{endpoint: Unknown, path: r.URL.EscapedPath(), query: r.URL.Query(), header: r.Header.Get("Authorization"), method: r.Method}
	c.handle = func(*Server, *call) answer { return failure(http.StatusNotFound, "Resource not found") }
	raw, _, _ := strings.Cut(r.RequestURI, "?")
	rest, ok := strings.CutPrefix(c.path, "/2.0/")
	if ok {
		parts := strings.Split(strings.TrimSuffix(rest, "/"), "/")
		for _, route := range routes {
			if args, ok := match(route.pattern, parts); ok {
				c.endpoint, c.handle, c.args = route.endpoint, route.handle, args
				break
			}
		}
	}
	switch {
	case strings.ContainsAny(raw, "{}"):
		// api.bitbucket.org answers a path with raw braces with 400.
		c.handle = func(*Server, *call) answer { return page(http.StatusBadRequest) }
	case c.endpoint == Hooks, c.endpoint == Reports:
		c.body, _ = io.ReadAll(io.LimitReader(r.Body, 1<<20)) // what is cut off is not JSON
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		c.handle = func(*Server, *call) answer { return failure(http.StatusMethodNotAllowed, "Method not allowed") }
	}
	return c
}

func match(pattern string, parts []string) (args []string, ok bool) {
	want := strings.Split(pattern, "/")
	if len(want) != len(parts) {
		return nil, false
	}
	for i, p := range parts {
		if want[i] != "*" {
			if want[i] != p {
				return nil, false
			}
			continue
		}
		arg, err := url.PathUnescape(p)
		if err != nil || arg == "" {
			return nil, false
		}
		args = append(args, arg)
	}
	return args, true
}

// answer is the model's response, without any fault.
func (s *Server) answer(c *call) answer {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return page(http.StatusServiceUnavailable)
	}
	limit := "60" // an hour, anonymous; Atlassian, "API request limits"
	if c.endpoint&REST != 0 {
		refusal, refused := s.authorize(c)
		if refused {
			return refusal
		}
		if c.caller != nil {
			limit = "1000"
		}
	}
	a := c.handle(s, c)
	if fields := c.query.Get("fields"); fields != "" && a.status == http.StatusOK {
		a.body = selectFields(a.body, fields)
	}
	if a.header == nil {
		a.header = http.Header{}
	}
	a.header.Set("X-RateLimit-Limit", limit)
	s.reportScopes(a.header, c)
	return a
}

// selectFields applies the fields parameter (REST 2.0, Partial responses):
// a list of paths keeps only those; -path takes one away; +path adds one, and
// there is nothing here that is not there by default.
func selectFields(body any, fields string) any {
	var tree any
	if err := json.Unmarshal(mustJSON(body), &tree); err != nil {
		panic(fmt.Sprintf("bitbuckettest: decode our own JSON: %v", err))
	}
	var only [][]string
	for f := range strings.SplitSeq(fields, ",") {
		switch {
		case strings.HasPrefix(f, "+"), f == "":
		case strings.HasPrefix(f, "-"):
			drop(tree, strings.Split(f[1:], "."))
		default:
			only = append(only, strings.Split(f, "."))
		}
	}
	if only == nil {
		return tree
	}
	return keep(tree, only)
}

func drop(tree any, path []string) {
	switch t := tree.(type) {
	case map[string]any:
		if len(path) == 1 {
			delete(t, path[0])
		} else {
			drop(t[path[0]], path[1:])
		}
	case []any:
		for _, e := range t {
			drop(e, path)
		}
	}
}

func keep(tree any, paths [][]string) any {
	switch t := tree.(type) {
	case map[string]any:
		kept := map[string]any{}
		below := map[string][][]string{}
		for _, p := range paths {
			v, ok := t[p[0]]
			switch {
			case p[0] == "*":
				return t
			case !ok:
			case len(p) == 1:
				kept[p[0]] = v
			default:
				below[p[0]] = append(below[p[0]], p[1:])
			}
		}
		for name, rest := range below {
			if _, whole := kept[name]; !whole {
				kept[name] = keep(t[name], rest)
			}
		}
		return kept
	case []any:
		kept := make([]any, len(t))
		for i, e := range t {
			kept[i] = keep(e, paths)
		}
		return kept
	default:
		return t
	}
}
