package bitbuckettest

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"

	"github.com/sallyport/sallyport/internal/bitbuckettest/hook"
)

// maxHooks is how many webhooks a repository can have.
const maxHooks = 50

// hookEvents is the enumeration hook_event of REST 2.0.
var hookEvents = []string{
	"repo:push", "repo:fork", "repo:updated", "repo:transfer", "repo:created", "repo:deleted", "repo:imported",
	"repo:commit_comment_created", "repo:commit_status_created", "repo:commit_status_updated",
	"pullrequest:created", "pullrequest:updated", "pullrequest:approved", "pullrequest:unapproved",
	"pullrequest:changes_request_created", "pullrequest:changes_request_removed", "pullrequest:fulfilled", "pullrequest:rejected",
	"pullrequest:comment_created", "pullrequest:comment_updated", "pullrequest:comment_deleted", "pullrequest:comment_resolved", "pullrequest:comment_reopened",
	"issue:created", "issue:updated", "issue:comment_created", "project:updated",
}

// findHooks returns the hooks of the repository, or of the workspace, that the path names.
func (s *Server) findHooks(c *call) (list *[]*subscription, refusal answer) {
	if len(c.args) > 0 && c.onWorkspace {
		w := s.findWorkspace(c.args[0])
		if w == nil || !c.sees(w) {
			return nil, failure(http.StatusNotFound, "No workspace with identifier '%s'.", c.args[0])
		}
		return &w.hooks, answer{}
	}
	r, none := s.findRepository(c)
	if r == nil {
		return nil, none
	}
	return &r.hooks, answer{}
}

func (s *Server) viewHook(h *subscription) map[string]any {
	c := h.Config()
	return map[string]any{
		"type": "webhook_subscription", "uuid": Braced(c.UUID), "url": c.URL, "description": h.description, "active": h.active,
		"events": c.Events, "secret_set": c.Secret != "", "skip_cert_verification": false, "history_enabled": false, "created_at": timestamp(h.created),
	}
}

// repositoryHooks and workspaceHooks answer requests about all hooks, and about one.
func (s *Server) repositoryHooks(c *call) answer { return s.hooks(c, 2) }

func (s *Server) workspaceHooks(c *call) answer {
	c.onWorkspace = true
	return s.hooks(c, 1)
}

// hooks answers a request whose path has so many parts before the hook's UUID.
func (s *Server) hooks(c *call, parts int) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	list, refusal := s.findHooks(c)
	if list == nil {
		return refusal
	}
	if len(c.args) == parts {
		if c.method == http.MethodPost {
			return s.createHook(c, list)
		}
		if c.method != http.MethodGet && c.method != http.MethodHead {
			return failure(http.StatusMethodNotAllowed, "Method not allowed")
		}
		return onePage(s, c, *list, s.viewHook)
	}
	i := slices.IndexFunc(*list, func(h *subscription) bool { return identifies(c.args[parts], h.Config().UUID, "") })
	if i < 0 {
		return failure(http.StatusNotFound, "Webhook %s not found", c.args[parts])
	}
	h := (*list)[i]
	switch c.method {
	case http.MethodPut:
		return s.updateHook(c, h)
	case http.MethodDelete:
		*list = slices.Delete(*list, i, i+1)
		return answer{status: http.StatusNoContent}
	case http.MethodGet, http.MethodHead:
		return answer{status: http.StatusOK, body: s.viewHook(h)}
	default:
		return failure(http.StatusMethodNotAllowed, "Method not allowed")
	}
}

// hookFields are the fields of a webhook that a caller sets. Absent fields of an update stay
// as they are; a secret that is null or empty is removed.
type hookFields struct {
	Description *string         `json:"description"`
	URL         *string         `json:"url"`
	Active      *bool           `json:"active"`
	Secret      json.RawMessage `json:"secret"` // empty: absent
	Events      []string        `json:"events"`
}

func readHook(c *call) (f hookFields, secret string, problem string) {
	if err := json.Unmarshal(c.body, &f); err != nil {
		return f, "", "the body is not a webhook: " + err.Error()
	}
	if len(f.Secret) > 0 {
		var text *string
		if err := json.Unmarshal(f.Secret, &text); err != nil {
			return f, "", "secret: not a string"
		}
		if text != nil {
			secret = *text
		}
	}
	if len(secret) > 128 {
		return f, "", "secret: longer than 128 characters"
	}
	if f.URL != nil {
		if u, err := url.Parse(*f.URL); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			return f, "", "url: Enter a valid URL."
		}
	}
	for _, e := range f.Events {
		if !slices.Contains(hookEvents, e) {
			return f, "", "events: " + e + " is not an event"
		}
	}
	return f, secret, ""
}

func (s *Server) createHook(c *call, list *[]*subscription) answer {
	f, secret, problem := readHook(c)
	switch {
	case problem != "":
		return failure(http.StatusBadRequest, "%s", problem)
	case f.URL == nil || len(f.Events) == 0:
		return failure(http.StatusBadRequest, "url and events are required")
	case len(*list) >= maxHooks:
		return failure(http.StatusBadRequest, "there can be at most %d webhooks", maxHooks)
	}
	h := s.newHook(hook.Config{URL: *f.URL, Secret: secret, Events: f.Events}, "")
	if f.Description != nil {
		h.description = *f.Description
	}
	h.active = f.Active == nil || *f.Active
	*list = append(*list, h)
	return answer{status: http.StatusCreated, body: s.viewHook(h)}
}

func (s *Server) updateHook(c *call, h *subscription) answer {
	f, secret, problem := readHook(c)
	if problem != "" {
		return failure(http.StatusBadRequest, "%s", problem)
	}
	h.Update(func(config *hook.Config) {
		if f.URL != nil {
			config.URL = *f.URL
		}
		if len(f.Secret) > 0 {
			config.Secret = secret
		}
		if f.Events != nil {
			config.Events = f.Events
		}
	})
	if f.Description != nil {
		h.description = *f.Description
	}
	if f.Active != nil {
		h.active = *f.Active
	}
	return answer{status: http.StatusOK, body: s.viewHook(h)}
}
