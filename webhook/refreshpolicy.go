package webhook

import (
	"net"
	"strings"
)

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
	for _, r := range e.Refs {
		if r.Type == kind && r.Name == name && r.Change != Deleted {
			return true
		}
	}
	return false
}

// FromRepository reports whether the event is about the repository at an address from which
// Git fetches. Known is false if that cannot be determined: the event names no repository or
// no URL of it, or none on the host of the address, which may be a mirror. On the same host,
// the address is that of one of the event's URLs, or its path ends in the full name.
func (e *Event) FromRepository(address string) (same, known bool) {
	wanted, err := NormalizeURL(address)
	if e == nil || e.Repository == nil || err != nil {
		return false, false
	}
	for _, u := range e.Repository.URLs {
		found, err := NormalizeURL(u)
		if err != nil || hostOf(found) != hostOf(wanted) {
			continue
		}
		known = true
		if found == wanted || strings.HasSuffix(wanted, "/"+strings.ToLower(e.Repository.FullName)) {
			return true, true
		}
	}
	return false, known
}

// hostOf returns the host of a normalized address, without the port: the ports of the
// protocols differ.
func hostOf(normalized string) string {
	authority, _, _ := strings.Cut(normalized, "/")
	if host, _, err := net.SplitHostPort(authority); err == nil {
		return host
	}
	return strings.Trim(authority, "[]")
}
