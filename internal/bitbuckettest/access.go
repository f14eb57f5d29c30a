package bitbuckettest

import (
	"net/http"
	"slices"
	"strings"
)

// The scopes that reading names needs, in the classic spelling.
const (
	ScopeRepository = "repository"
	ScopePipeline   = "pipeline"
	// ScopePullRequest lets a token read pull requests. [Workspace.SetAccessTokens]
	// does not give it.
	ScopePullRequest = "pullrequest"
	// ScopeWebhook lets a token read and change webhooks. [Workspace.SetAccessTokens] does
	// not give it.
	ScopeWebhook = "webhook"
)

// HideScopes makes the API report no token's scopes.
func (s *Server) HideScopes() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hideScopes = true
}

// reportScopes sets the header in which the API names what a token may do. Atlassian
// documents no such header for access tokens, so that callers work without it.
func (s *Server) reportScopes(h http.Header, c *call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.caller != nil && !s.hideScopes {
		h.Set("X-OAuth-Scopes", strings.Join(c.caller.scopes, ", "))
	}
}

// SetAccessTokens replaces the workspace's access tokens; each may read
// repositories and pipelines of the workspace. The ones before are invalid from
// then on.
func (w *Workspace) SetAccessTokens(tokens ...string) {
	s := w.server
	s.mu.Lock()
	defer s.mu.Unlock()
	for t, a := range s.tokens {
		if a.workspace == w {
			delete(s.tokens, t)
		}
	}
	for _, t := range tokens {
		s.tokens[t] = accessToken{w, []string{ScopeRepository, ScopePipeline}}
	}
}

// AddAccessToken adds an access token with these scopes alone, which may be
// none.
func (w *Workspace) AddAccessToken(token string, scopes ...string) {
	w.server.mu.Lock()
	defer w.server.mu.Unlock()
	w.server.tokens[token] = accessToken{w, slices.Clone(scopes)}
}

// authorize identifies the caller and checks its scopes. Everything here is private and
// requires an access token; a step's own OIDC token is not one.
func (s *Server) authorize(c *call) (refusal answer, refused bool) {
	needs := ScopePipeline
	switch c.endpoint {
	case Hooks:
		needs = ScopeWebhook
	case WorkspaceGet:
		needs = ""
	case RepositoryList, RepositoryGet, Reports:
		needs = ScopeRepository
	case CommitPullRequests, PullRequestList, PullRequestGet, PullRequestCommits:
		needs = ScopePullRequest
	}
	if c.header == "" {
		if c.endpoint == WorkspaceGet {
			// Known or not: the live API does not reveal which.
			return failure(http.StatusForbidden, "You do not have access to this workspace."), true
		}
		return failure(http.StatusUnauthorized, "Authentication is required."), true
	}
	scheme, token, _ := strings.Cut(c.header, " ")
	s.mu.Lock()
	access, ok := s.tokens[token]
	s.mu.Unlock()
	if !strings.EqualFold(scheme, "Bearer") || !ok {
		return failure(http.StatusUnauthorized, "Token is invalid or not supported for this endpoint."), true
	}
	if needs != "" && !slices.Contains(access.scopes, needs) {
		a := failure(http.StatusForbidden, "Your credentials lack one or more required privilege scopes.")
		a.body.(map[string]any)["error"].(map[string]any)["detail"] = map[string]any{
			"required": []string{needs}, "granted": access.scopes,
		}
		return a, true
	}
	c.caller = &access
	return answer{}, false
}

// sees reports whether the caller may see what is in a workspace. The caller holds
// mu.
func (c *call) sees(w *Workspace) bool { return c.caller != nil && c.caller.workspace == w }
