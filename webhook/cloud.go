package webhook

import "strconv"

// readCloud fills in an event of Bitbucket Cloud.
func readCloud(top node, e *Event) {
	if r, ok := top.object("repository"); ok {
		e.Repository = cloudRepository(r)
	}
	if actor, ok := top.object("actor"); ok {
		e.Actor = Actor{UUID: actor.bareUUID("uuid"), Kind: actor.text("type")}
	}
	if pr, ok := top.object("pullrequest"); ok {
		e.PullRequest = cloudPullRequest(pr)
		if r := e.Repository; r != nil && r.FullName != "" {
			e.PullRequest.URL = cloudSite + r.FullName + "/pull-requests/" + strconv.FormatInt(e.PullRequest.ID, 10)
		}
	}
	switch e.Key {
	case "repo:push":
		push, _ := top.object("push")
		for _, change := range push.objects("changes") {
			if r, ok := cloudRef(change); ok {
				e.add(r)
			}
		}
	case "pullrequest:fulfilled":
		e.addMergedBranch()
	}
}

func cloudRepository(r node) *Repository {
	project, _ := r.object("project")
	name := r.text("full_name")
	return &Repository{UUID: r.bareUUID("uuid"), FullName: name, Project: project.text("key"), URLs: cloudAddress(name)}
}

func cloudPullRequest(pr node) *PullRequest {
	merge, _ := pr.object("merge_commit")
	return &PullRequest{
		ID: pr.integer("id"), State: pr.text("state"), Source: cloudSide(pr, "source"), Destination: cloudSide(pr, "destination"),
		MergeCommit: merge.objectName("hash"),
	}
}

func cloudSide(pr node, key string) Side {
	side, _ := pr.object(key)
	branch, _ := side.object("branch")
	commit, _ := side.object("commit")
	s := Side{Branch: branch.text("name"), Commit: commit.objectName("hash")}
	if r, ok := side.object("repository"); ok {
		s.Repository = cloudRepository(r)
	}
	return s
}

// cloudRef reads a change of a push: old is null where the ref was created, new where it
// was deleted.
func cloudRef(change node) (Ref, bool) {
	after, exists := change.object("new")
	before, existed := change.object("old")
	named, r := after, Ref{Change: Updated, Old: cloudTarget(before), New: cloudTarget(after)}
	switch {
	case !exists && !existed:
		change.reject("new", "an object, and neither is old")
		return Ref{}, false
	case !exists:
		named, r.Change = before, Deleted
	case !existed:
		r.Change = Created
	}
	r.Name = named.text("name")
	switch named.text("type") {
	case "branch", "named_branch":
		r.Type = Branch
	case "tag", "annotated_tag":
		r.Type = Tag
	default:
		named.reject("type", "branch or tag")
		return Ref{}, false
	}
	return r, true
}

func cloudTarget(n node) string {
	target, _ := n.object("target")
	return target.objectName("hash")
}
