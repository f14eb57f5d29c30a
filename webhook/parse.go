package webhook

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/internal/uuid"
)

// MaxRefs is how many refs an [Event] lists. Of a delivery with more, the first are
// listed, and Incomplete is true.
const MaxRefs = 1000

// ErrUnknownEvent is returned, wrapped, by [Parse] for an event key that Bitbucket does
// not document.
var ErrUnknownEvent = errors.New("unknown event")

// A shape is what the body of an event looks like. The event key is not signed and the
// body is: a body decides whether it can be that event.
type shape struct {
	needs    []string // required top-level objects
	optional []string // optional top-level objects of [exclusiveObjects]
	states   []string // permitted states of the pull request; empty: any
}

// exclusiveObjects are the top-level objects that only some events have. An event must not
// have one that its shape does not list.
var exclusiveObjects = map[Kind][]string{
	Cloud:      {"push", "fork", "pullrequest", "issue", "comment", "approval", "changes_request", "commit_status"},
	DataCenter: {"pullRequest", "comment", "mirrorServer"},
}

// Ping is the event key of Data Center's connection test, which is not signed.
const Ping = "diagnostics:ping"

// shapes are the documented events.
// Sources: the hook_event enumeration of Bitbucket Cloud's REST API;
// confluence.atlassian.com/bitbucketserver/event-payload-938025882.html.
var shapes = map[Kind]map[string]shape{
	Cloud: {
		"repo:push":                           {needs: []string{"repository", "push"}},
		"repo:fork":                           {needs: []string{"repository", "fork"}},
		"repo:updated":                        {needs: []string{"repository"}},
		"repo:transfer":                       {needs: []string{"repository"}},
		"repo:created":                        {needs: []string{"repository"}},
		"repo:deleted":                        {needs: []string{"repository"}},
		"repo:imported":                       {needs: []string{"repository"}},
		"repo:commit_comment_created":         {needs: []string{"repository", "comment"}},
		"repo:commit_status_created":          {needs: []string{"repository", "commit_status"}},
		"repo:commit_status_updated":          {needs: []string{"repository", "commit_status"}},
		"pullrequest:created":                 {needs: []string{"repository", "pullrequest"}, states: []string{"OPEN"}},
		"pullrequest:updated":                 {needs: []string{"repository", "pullrequest"}},
		"pullrequest:approved":                {needs: []string{"repository", "pullrequest", "approval"}},
		"pullrequest:unapproved":              {needs: []string{"repository", "pullrequest", "approval"}},
		"pullrequest:changes_request_created": {needs: []string{"repository", "pullrequest", "changes_request"}},
		"pullrequest:changes_request_removed": {needs: []string{"repository", "pullrequest", "changes_request"}},
		"pullrequest:fulfilled":               {needs: []string{"repository", "pullrequest"}, states: []string{"MERGED"}},
		"pullrequest:rejected":                {needs: []string{"repository", "pullrequest"}, states: []string{"DECLINED", "SUPERSEDED"}},
		"pullrequest:comment_created":         {needs: []string{"repository", "pullrequest", "comment"}},
		"pullrequest:comment_updated":         {needs: []string{"repository", "pullrequest", "comment"}},
		"pullrequest:comment_deleted":         {needs: []string{"repository", "pullrequest", "comment"}},
		"pullrequest:comment_resolved":        {needs: []string{"repository", "pullrequest", "comment"}},
		"pullrequest:comment_reopened":        {needs: []string{"repository", "pullrequest", "comment"}},
		"issue:created":                       {needs: []string{"repository", "issue"}},
		"issue:updated":                       {needs: []string{"repository", "issue"}, optional: []string{"comment"}},
		"issue:comment_created":               {needs: []string{"repository", "issue", "comment"}},
		"project:updated":                     {needs: []string{"project"}},
	},
	DataCenter: {
		"repo:refs_changed":             {needs: []string{"repository"}},
		"repo:modified":                 {needs: []string{"new"}},
		"repo:forked":                   {needs: []string{"repository"}},
		"repo:comment:added":            {needs: []string{"repository", "comment"}},
		"repo:comment:edited":           {needs: []string{"repository", "comment"}},
		"repo:comment:deleted":          {needs: []string{"repository", "comment"}},
		"repo:secret_detected":          {needs: []string{"repository"}},
		"mirror:repo_synchronized":      {needs: []string{"repository", "mirrorServer"}},
		"project:modified":              {needs: []string{"new"}},
		"pr:opened":                     {needs: []string{"pullRequest"}, states: []string{"OPEN"}},
		"pr:from_ref_updated":           {needs: []string{"pullRequest"}},
		"pr:to_ref_updated":             {needs: []string{"pullRequest"}},
		"pr:modified":                   {needs: []string{"pullRequest"}},
		"pr:reviewer:updated":           {needs: []string{"pullRequest"}},
		"pr:reviewer:approved":          {needs: []string{"pullRequest"}},
		"pr:reviewer:unapproved":        {needs: []string{"pullRequest"}},
		"pr:reviewer:needs_work":        {needs: []string{"pullRequest"}},
		"pr:reviewer:changes_requested": {needs: []string{"pullRequest"}},
		"pr:merged":                     {needs: []string{"pullRequest"}, states: []string{"MERGED"}},
		"pr:declined":                   {needs: []string{"pullRequest"}, states: []string{"DECLINED"}},
		"pr:deleted":                    {needs: []string{"pullRequest"}},
		"pr:comment:added":              {needs: []string{"pullRequest", "comment"}},
		"pr:comment:edited":             {needs: []string{"pullRequest", "comment"}},
		"pr:comment:deleted":            {needs: []string{"pullRequest", "comment"}},
	},
}

// IsEvent reports whether a product documents the event key.
func IsEvent(kind Kind, key string) bool {
	_, ok := shapes[kind][key]
	return ok
}

// Events returns the event keys that a product documents, sorted.
func Events(kind Kind) []string { return slices.Sorted(maps.Keys(shapes[kind])) }

// HasRepository reports whether every delivery of the event names a repository.
func HasRepository(kind Kind, key string) bool {
	needs := shapes[kind][key].needs
	return key == "repo:modified" || slices.Contains(needs, "repository") || slices.Contains(needs, "pullRequest")
}

// Parse reads the body of a delivery whose signature was verified. key is the value of
// X-Event-Key. An error names the path of the first field that differs from the
// documentation of that event, and never its value. A body that cannot be the event of its
// key is an error. Memory is in proportion to the body. Sources:
// support.atlassian.com/bitbucket-cloud/docs/event-payloads;
// confluence.atlassian.com/bitbucketserver/event-payload-938025882.html.
func Parse(kind Kind, key string, body []byte) (*Event, error) {
	shape, ok := shapes[kind][key]
	if !ok {
		return nil, fmt.Errorf("%w %.64q", ErrUnknownEvent, key)
	}
	fields, err := decode(body)
	if err != nil {
		return nil, err
	}
	var fault error
	top := node{fields: fields, fault: &fault}
	if err := shape.check(kind, key, top); err != nil {
		return nil, err
	}
	e := &Event{Kind: kind, Key: key}
	if kind == Cloud {
		readCloud(top, e)
	} else {
		readDataCenter(top, e)
	}
	if fault == nil {
		fault = e.check(shape)
	}
	if fault != nil {
		return nil, fault
	}
	return e, nil
}

// check returns an error where the body cannot be the event of its key.
func (s shape) check(kind Kind, key string, top node) error {
	for _, name := range s.needs {
		if _, ok := top.object(name); !ok {
			return fmt.Errorf("the body has no object %s, which %s requires", name, key)
		}
	}
	for _, name := range exclusiveObjects[kind] {
		if top.has(name) && !slices.Contains(s.needs, name) && !slices.Contains(s.optional, name) {
			return fmt.Errorf("the body has %s, which %s does not have", name, key)
		}
	}
	// Data Center repeats the key in the body, where it is signed.
	if kind == DataCenter && top.text("eventKey") != key {
		return fmt.Errorf("the body's eventKey is not that of the header field X-Event-Key")
	}
	return *top.fault
}

// check returns an error where something is missing that policy or a route reads.
func (e *Event) check(s shape) error {
	hasRepository := slices.Contains(s.needs, "repository") || e.PullRequest != nil
	if hasRepository && (e.Repository == nil || e.Repository.FullName == "" || e.Kind == Cloud && e.Repository.UUID == "") {
		return errors.New("the repository is not named")
	}
	if pr := e.PullRequest; pr != nil {
		if pr.ID <= 0 || pr.Destination.Branch == "" {
			return errors.New("the pull request has no number or no destination branch")
		}
		if len(s.states) > 0 && !slices.Contains(s.states, pr.State) {
			return fmt.Errorf("the pull request's state is not that of %s: %s", e.Key, strings.Join(s.states, " or "))
		}
	}
	for _, r := range e.Refs {
		if !validRefName(r.Name) {
			return errors.New("a ref's name is not one that Git allows")
		}
	}
	return e.checkRepositories()
}

// validRefName reports whether a name has none of what git-check-ref-format(1) forbids
// in every name.
func validRefName(name string) bool {
	return name != "" && !strings.HasPrefix(name, "/") && !strings.HasSuffix(name, "/") && !strings.HasSuffix(name, ".") &&
		!strings.Contains(name, "..") && !strings.Contains(name, "//") && !strings.Contains(name, "@{") &&
		!strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune(`~^:?*[\`, r) })
}

// add lists a ref, or notes that there are too many.
func (e *Event) add(r Ref) {
	if len(e.Refs) == MaxRefs {
		e.Incomplete = true
		return
	}
	e.Refs = append(e.Refs, r)
}

// addMergedBranch lists the destination branch of a merge as the ref that changed.
func (e *Event) addMergedBranch() {
	if pr := e.PullRequest; pr != nil {
		e.add(Ref{Type: Branch, Name: pr.Destination.Branch, Change: Updated, New: pr.MergeCommit})
	}
}

// bareUUID returns a UUID without Bitbucket's braces, in lower case.
func (n node) bareUUID(key string) string {
	s := strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(n.text(key), "{"), "}"))
	if s != "" && !uuid.IsCanonical(s) {
		n.reject(key, "a UUID")
		return ""
	}
	return s
}

// objectName returns a Git object id, whole or abbreviated; empty for the one of zeros,
// which Data Center writes for none.
func (n node) objectName(key string) string {
	s := n.text(key)
	if strings.Trim(s, "0") == "" {
		return ""
	}
	if len(s) < 7 || len(s) > 64 || strings.Trim(s, "0123456789abcdef") != "" {
		n.reject(key, "a commit's hash")
		return ""
	}
	return s
}
