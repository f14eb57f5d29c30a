// Package webhook receives Bitbucket's webhook deliveries: it verifies each one before
// anything else reads it, and describes it as the input of policy and of the audit log.
//
// A [Receiver] is the HTTP handler of one path. It gives each verified delivery to a
// [Queue], which commits the delivery with its audit event, and only then answers 200.
// [Parse] turns a verified body into an [Event], the same for Bitbucket Cloud and Data
// Center.
package webhook

import (
	"encoding/json"
	"fmt"
)

// Kind is the product that sends deliveries. The zero value is invalid.
type Kind uint8

// The kinds.
const (
	Cloud      Kind = iota + 1 // bitbucket.org
	DataCenter                 // Bitbucket Data Center, and its predecessor Server
)

var kindNames = map[Kind]string{Cloud: "cloud", DataCenter: "data_center"}

// String returns the kind as the configuration spells it.
func (k Kind) String() string {
	if name, ok := kindNames[k]; ok {
		return name
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// MarshalJSON writes the name.
func (k Kind) MarshalJSON() ([]byte, error) { return json.Marshal(k.String()) }

// Event describes a verified delivery: the input of policy. An Event is immutable once
// [Parse] has returned it, and is therefore safe for concurrent use.
type Event struct {
	Kind        Kind         `json:"kind"`
	Key         string       `json:"event"` // X-Event-Key, which agrees with the body
	Repository  *Repository  `json:"repository,omitempty"`
	Refs        []Ref        `json:"refs,omitempty"`
	PullRequest *PullRequest `json:"pull_request,omitempty"`
	Actor       Actor        `json:"actor"`
	// Incomplete is true where the delivery does not list every ref that changed: any
	// other may have changed too.
	Incomplete bool `json:"incomplete,omitempty"`
}

// Repository is the repository that an event is about. Data Center has no UUIDs.
type Repository struct {
	UUID     string `json:"uuid,omitempty"` // bare and lower-case
	ID       int64  `json:"id,omitempty"`   // Data Center's number
	FullName string `json:"full_name"`      // workspace or project, a slash, slug
	Project  string `json:"project,omitempty"`
	// URLs are the URLs of the repository's web page and of its clones. Those of Cloud are
	// made from FullName. Those of Data Center are of the sender's host, and end in FullName.
	URLs []string `json:"urls,omitempty"`
}

// RefType is branch or tag.
type RefType string

// The types.
const (
	Branch RefType = "branch"
	Tag    RefType = "tag"
)

// Change is what happened to a ref.
type Change string

// The changes.
const (
	Created Change = "created"
	Updated Change = "updated"
	Deleted Change = "deleted"
)

// Ref is one branch or tag that changed.
type Ref struct {
	Type   RefType `json:"type"`
	Name   string  `json:"name"` // without refs/heads/ or refs/tags/
	Change Change  `json:"change"`
	Old    string  `json:"old,omitempty"` // object id before; empty where the ref was created
	New    string  `json:"new,omitempty"` // object id after; empty where the ref was deleted
}

// PullRequest is the pull request that an event is about.
type PullRequest struct {
	ID          int64  `json:"id"`
	State       string `json:"state"` // as Bitbucket spells it: OPEN, MERGED, DECLINED, SUPERSEDED
	Source      Side   `json:"source"`
	Destination Side   `json:"destination"`
	MergeCommit string `json:"merge_commit,omitempty"` // Cloud abbreviates it to 12 digits
	URL         string `json:"url,omitempty"`
}

// Side is one side of a pull request.
type Side struct {
	// Repository is nil where Bitbucket names none: the fork was deleted.
	Repository *Repository `json:"repository,omitempty"`
	Branch     string      `json:"branch"`
	Commit     string      `json:"commit,omitempty"`
}

// Actor is who caused an event.
type Actor struct {
	UUID string `json:"uuid,omitempty"` // Cloud: bare and lower-case
	ID   int64  `json:"id,omitempty"`   // Data Center
	Kind string `json:"kind,omitempty"` // user, team, app_user; Data Center: normal, service
}
