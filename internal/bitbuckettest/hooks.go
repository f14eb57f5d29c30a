package bitbuckettest

import (
	"slices"
	"strings"

	"github.com/sallyport/sallyport/internal/bitbuckettest/hook"
)

// AddHook makes a webhook of the repository. It sends a delivery for each push to the
// repository's Git server (see [Repository.ServeGit]), and for each call of
// [Repository.Push], [Repository.Merged], Rename, SetProject, Transfer and Delete. A hook of
// [hook.DataCenter] sends what Data Center would.
func (r *Repository) AddHook(c hook.Config) *hook.Sender {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	h := r.server.newHook(c, "")
	r.hooks = append(r.hooks, h)
	return h.Sender
}

// Hooks returns the senders of the repository's hooks, those made through REST included.
func (r *Repository) Hooks() []*hook.Sender {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	return senders(r.hooks)
}

// newHook makes a hook. The caller holds mu.
func (s *Server) newHook(c hook.Config, description string) *subscription {
	if c.UUID == "" {
		c.UUID = s.newUUID()
	}
	if c.RootCAs == nil {
		c.RootCAs = s.hookRoots
	}
	h := &subscription{Sender: hook.New(c), description: description, created: s.now(), active: true}
	s.senders = append(s.senders, h.Sender)
	return h
}

func senders(hooks []*subscription) []*hook.Sender {
	all := make([]*hook.Sender, len(hooks))
	for i, h := range hooks {
		all[i] = h.Sender
	}
	return all
}

// An occurrence is the same event in the words of each product. An empty key: the product
// does not have it.
type occurrence struct {
	cloud, dataCenter string // event keys
	body              func(p hook.Product) map[string]any
}

// send queues a delivery for each active hook of the repository and its workspace. The
// caller holds mu.
func (r *Repository) send(o occurrence) {
	for _, h := range slices.Concat(r.hooks, r.workspace.hooks) {
		if !h.active {
			continue
		}
		product, key := h.Config().Product, o.cloud
		if product == hook.DataCenter {
			key = o.dataCenter
		}
		if key == "" {
			continue
		}
		body := o.body(product)
		if product == hook.DataCenter {
			body["eventKey"], body["date"], body["actor"] = key, timestampDC(r.server.now()), viewActorDC(r.workspace)
		} else {
			body["actor"], body["repository"] = viewActor(r.workspace), r.brief()
		}
		h.Send(key, mustJSON(body))
	}
}

// Push sends the event of a push. A push to the Git server sends it by itself.
func (r *Repository) Push(changes ...RefChange) {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	r.push(changes)
}

func (r *Repository) push(changes []RefChange) {
	r.send(occurrence{"repo:push", "repo:refs_changed", func(p hook.Product) map[string]any {
		list := make([]any, len(changes))
		for i, c := range changes {
			if list[i] = c.view(r); p == hook.DataCenter {
				list[i] = c.viewDC()
			}
		}
		if p == hook.DataCenter {
			return map[string]any{"repository": r.viewDC(), "changes": list, "commits": []any{}}
		}
		return map[string]any{"push": map[string]any{"changes": list}}
	}})
}

// Merged sends the event of a merged pull request of this repository.
func (r *Repository) Merged(p *Pull) {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	r.send(occurrence{"pullrequest:fulfilled", "pr:merged", func(product hook.Product) map[string]any {
		if product == hook.DataCenter {
			return map[string]any{"pullRequest": p.viewDC(r)}
		}
		view := r.server.viewPull(p)
		for _, side := range []string{"source", "destination"} {
			view[side].(map[string]any)["repository"] = r.brief()
		}
		view["links"] = map[string]any{"html": link(website + r.fullName() + "/pull-requests/1")}
		return map[string]any{"pullrequest": view}
	}})
}

// changed sends the event of a repository whose name, project or workspace changed.
func (r *Repository) changed(key string, before map[string]any) {
	modified := "repo:modified"
	if key == "repo:deleted" {
		modified = ""
	}
	r.send(occurrence{key, modified, func(p hook.Product) map[string]any {
		if p == hook.DataCenter {
			return map[string]any{"old": before, "new": r.viewDC()}
		}
		return map[string]any{"changes": map[string]any{}}
	}})
}

// closeHooks ends all hooks.
func (s *Server) closeHooks() {
	s.mu.Lock()
	all := slices.Clone(s.senders)
	s.mu.Unlock()
	for _, h := range all {
		h.Close()
	}
}

// isTag reports whether a Git ref is a tag, and returns its bare name.
func isTag(ref string) (name string, tag bool) {
	if name, ok := strings.CutPrefix(ref, "refs/tags/"); ok {
		return name, true
	}
	return strings.TrimPrefix(ref, "refs/heads/"), false
}
