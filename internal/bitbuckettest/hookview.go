package bitbuckettest

import (
	"strconv"
	"strings"
	"time"
)

// The bodies of deliveries. Sources: fixtures of public receivers, made from captures;
// support.atlassian.com/bitbucket-cloud/docs/event-payloads;
// confluence.atlassian.com/bitbucketserver/event-payload-938025882.html. The caller holds mu.

// RefChange is a change of one branch or tag.
type RefChange struct {
	Ref    string // refs/heads/… or refs/tags/…
	Old    string // commit; empty: the ref is created
	New    string // commit; empty: the ref is deleted
	Forced bool   // New does not follow Old
	// Commits are the new ones, the latest first.
	Commits []Commit
}

// Commit is a commit as deliveries describe it.
type Commit struct {
	Hash, Author, Message string
	Date                  time.Time
}

func viewActor(w *Workspace) map[string]any {
	return map[string]any{"type": "user", "display_name": "Robin Builder", "nickname": "robin", "uuid": Braced(w.creator), "account_id": "557058:" + w.creator, "links": map[string]any{}}
}

// brief is the repository in a delivery of Cloud: it has no clone links.
func (r *Repository) brief() map[string]any {
	view := r.server.viewRepository(r)
	delete(view, "created_on")
	delete(view, "mainbranch")
	delete(view, "slug")
	links := view["links"].(map[string]any)
	delete(links, "clone")
	view["website"], view["parent"] = nil, nil
	return view
}

// view is the change in a delivery of Cloud, which writes bare names.
func (c RefChange) view(r *Repository) map[string]any {
	name, tag := isTag(c.Ref)
	kind := "branch"
	if tag {
		kind = "tag"
	}
	side := func(hash string, commit Commit) any {
		if hash == "" {
			return nil
		}
		target := map[string]any{"type": "commit", "hash": hash, "links": map[string]any{}, "parents": []any{}}
		if commit.Hash != "" {
			target["message"], target["date"], target["author"] = commit.Message, timestamp(commit.Date), map[string]any{"type": "author", "raw": commit.Author}
		}
		return map[string]any{"type": kind, "name": name, "target": target, "links": map[string]any{}}
	}
	var tip Commit
	commits := []any{}
	for i, commit := range c.Commits {
		if i == 0 {
			tip = commit
		}
		commits = append(commits, map[string]any{"type": "commit", "hash": commit.Hash, "message": commit.Message, "date": timestamp(commit.Date),
			"author": map[string]any{"type": "author", "raw": commit.Author}})
	}
	return map[string]any{
		"new": side(c.New, tip), "old": side(c.Old, Commit{}), "created": c.Old == "", "closed": c.New == "", "forced": c.Forced,
		"truncated": false, "commits": commits, "links": map[string]any{"html": link(website + r.fullName() + "/branches/compare")},
	}
}

func timestampDC(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05-0700") }

func viewActorDC(*Workspace) map[string]any {
	return map[string]any{"name": "robin", "slug": "robin", "id": 4, "displayName": "Robin Builder", "emailAddress": "robin@acme.example", "active": true, "type": "NORMAL"}
}

func (r *Repository) viewDC() map[string]any {
	slug := slugify(r.name)
	path := strings.ToLower(r.project) + "/" + slug
	return map[string]any{
		"slug": slug, "id": r.number, "name": r.name, "hierarchyId": r.UUID[:8], "scmId": "git", "state": "AVAILABLE", "archived": false, "public": false,
		"project": map[string]any{"key": r.project, "id": 1, "name": r.project, "type": "NORMAL"},
		"links": map[string]any{
			"clone": []any{
				map[string]any{"name": "http", "href": "https://bitbucket.acme.example/scm/" + path + ".git"},
				map[string]any{"name": "ssh", "href": "ssh://git@bitbucket.acme.example:7999/" + path + ".git"},
			},
			"self": []any{link("https://bitbucket.acme.example/projects/" + r.project + "/repos/" + slug + "/browse")},
		},
	}
}

const zeros = "0000000000000000000000000000000000000000"

func (c RefChange) viewDC() map[string]any {
	name, tag := isTag(c.Ref)
	kind, change := "BRANCH", "UPDATE"
	if tag {
		kind = "TAG"
	}
	from, to := c.Old, c.New
	if from == "" {
		from, change = zeros, "ADD"
	}
	if to == "" {
		to, change = zeros, "DELETE"
	}
	return map[string]any{
		"ref":   map[string]any{"id": c.Ref, "displayId": name, "type": kind},
		"refId": c.Ref, "fromHash": from, "toHash": to, "type": change,
	}
}

func (p *Pull) viewDC(r *Repository) map[string]any {
	side := func(branch, commit string) map[string]any {
		return map[string]any{"id": "refs/heads/" + branch, "displayId": branch, "latestCommit": commit, "repository": r.viewDC()}
	}
	return map[string]any{
		"id": p.ID, "version": 1, "title": p.Title, "state": p.state, "open": p.state == "OPEN", "closed": p.state != "OPEN",
		"updatedDate": p.updated.UnixMilli(), "fromRef": side("topic", p.Source), "toRef": side(p.Destination, p.Source), "reviewers": []any{}, "participants": []any{},
		"properties": map[string]any{"mergeCommit": map[string]any{"id": p.merge, "displayId": p.merge[:min(len(p.merge), 11)]}},
		"links":      map[string]any{"self": []any{link("https://bitbucket.acme.example/projects/" + r.project + "/repos/" + slugify(r.name) + "/pull-requests/" + strconv.Itoa(p.ID))}},
	}
}
