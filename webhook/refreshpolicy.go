package webhook

// movesRefs are the events that report a changed ref: pushes, and merges of a pull request.
// mirror:repo_synchronized is the push of a Data Center mirror.
var movesRefs = map[Kind]map[string]bool{
	Cloud:      {"repo:push": true, "pullrequest:fulfilled": true},
	DataCenter: {"repo:refs_changed": true, "pr:merged": true, "mirror:repo_synchronized": true},
}

// AffectsBranch reports whether a fetch of the branch can return another commit than before
// the event: the event creates or updates the branch, or merges a pull request into it. The
// name is without refs/heads/. Deleting the branch, tags of its name, other branches and all
// other events do not affect it. An event that does not list all its refs affects every
// branch. AffectsBranch is false for a nil event and for an empty name.
func AffectsBranch(e *Event, branch string) bool { return e.affects(Branch, branch) }

// AffectsTag is [AffectsBranch] for a tag, without refs/tags/.
func AffectsTag(e *Event, tag string) bool { return e.affects(Tag, tag) }

// Refreshable reports whether the event is one by which a ref can change.
func Refreshable(kind Kind, key string) bool { return movesRefs[kind][key] }

func (e *Event) affects(kind RefType, name string) bool {
	if e == nil || name == "" || !Refreshable(e.Kind, e.Key) {
		return false
	}
	if e.Incomplete {
		return true
	}
	if e.PullRequest != nil && !e.PullRequest.into(e.Repository) {
		return false
	}
	for _, r := range e.Refs {
		if r.Type == kind && r.Name == name && r.Change != Deleted {
			return true
		}
	}
	return false
}

// into reports whether the pull request's destination is the repository, or is not named.
func (p *PullRequest) into(r *Repository) bool {
	d := p.Destination.Repository
	switch {
	case d == nil || r == nil:
		return true
	case d.UUID != "" && r.UUID != "":
		return d.UUID == r.UUID
	case d.ID != 0 && r.ID != 0:
		return d.ID == r.ID
	default:
		return d.FullName == r.FullName
	}
}
