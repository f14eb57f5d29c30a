package webhook

import "strings"

// readDataCenter fills in an event of Bitbucket Data Center.
func readDataCenter(top node, e *Event) {
	r, ok := top.object("repository")
	if !ok && e.Key == "repo:modified" {
		r, ok = top.object("new")
	}
	if ok {
		e.Repository = dataCenterRepository(r)
	}
	if actor, ok := top.object("actor"); ok {
		e.Actor = Actor{ID: actor.integer("id"), Kind: strings.ToLower(actor.text("type"))}
	}
	if pr, ok := top.object("pullRequest"); ok {
		e.PullRequest = dataCenterPullRequest(pr)
		if e.Repository == nil {
			e.Repository = e.PullRequest.Destination.Repository
		}
		e.PullRequest.bindPage(e.Repository, pr)
	}
	switch e.Key {
	case "repo:refs_changed", "mirror:repo_synchronized":
		for _, change := range top.objects("changes") {
			if r, ok := dataCenterRef(change); ok {
				e.add(r)
			}
		}
		e.Incomplete = e.Incomplete || top.flag("refLimitExceeded")
	case "pr:merged":
		e.addMergedBranch()
	}
}

func dataCenterRepository(r node) *Repository {
	project, _ := r.object("project")
	out := &Repository{ID: r.integer("id"), Project: project.text("key")}
	if slug := r.text("slug"); slug != "" && out.Project != "" {
		out.FullName = out.Project + "/" + slug
	}
	if links, ok := r.object("links"); ok { // absent before version 6
		out.readAddresses(links)
	}
	return out
}

func dataCenterPullRequest(pr node) *PullRequest {
	out := &PullRequest{ID: pr.integer("id"), State: pr.text("state"), Source: dataCenterSide(pr, "fromRef"), Destination: dataCenterSide(pr, "toRef")}
	properties, _ := pr.object("properties")
	merge, _ := properties.object("mergeCommit")
	out.MergeCommit = merge.objectName("id")
	if links, ok := pr.object("links"); ok {
		for _, self := range links.objects("self") {
			out.URL = self.text("href")
			break
		}
	}
	return out
}

func dataCenterSide(pr node, key string) Side {
	side, _ := pr.object(key)
	name, _ := strings.CutPrefix(side.text("id"), "refs/heads/")
	s := Side{Branch: name, Commit: side.objectName("latestCommit")}
	if r, ok := side.object("repository"); ok {
		s.Repository = dataCenterRepository(r)
	}
	return s
}

func dataCenterRef(change node) (Ref, bool) {
	ref, _ := change.object("ref")
	id := ref.text("id")
	if id == "" {
		id = change.text("refId")
	}
	r := Ref{Old: change.objectName("fromHash"), New: change.objectName("toHash")}
	var branch, tag bool
	if r.Name, branch = strings.CutPrefix(id, "refs/heads/"); branch {
		r.Type = Branch
	} else if r.Name, tag = strings.CutPrefix(id, "refs/tags/"); tag {
		r.Type = Tag
	} else {
		ref.reject("id", "a branch or tag, written in full")
		return Ref{}, false
	}
	switch change.text("type") {
	case "ADD":
		r.Change = Created
	case "UPDATE":
		r.Change = Updated
	case "DELETE":
		r.Change = Deleted
	default:
		change.reject("type", "ADD, UPDATE or DELETE")
		return Ref{}, false
	}
	return r, true
}
