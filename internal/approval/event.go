package approval

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
)

// Caps on what people choose, in bytes after escaping.
const (
	maxName  = 100
	maxTitle = 300
	maxList  = 1900 // of JSON: an attribute has room for 2,048
)

// person is an account in an attribute, as SQL reads it.
type person struct {
	UUID string `json:"uuid"`
	Name string `json:"name"`
	At   string `json:"at,omitempty"`
	// Author: the approval does not count, because its author wrote a part
	// of the change, or whom Bitbucket does not name.
	Author bool `json:"author,omitempty"`
}

// people writes a JSON array, which ends before it would be cut.
func people(list []person) string {
	text := []byte{'['}
	for _, p := range list {
		p.Name = audit.Text(p.Name, maxName)
		member, err := json.Marshal(p)
		if err != nil || len(text)+len(member)+2 > maxList {
			break
		}
		if len(text) > 1 {
			text = append(text, ',')
		}
		text = append(text, member...)
	}
	return string(append(text, ']'))
}

func at(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// event is what is recorded of an activation.
func (c *Config) event(a Activation, f *finding) *audit.Event {
	e := &audit.Event{Time: c.Now(), Kind: audit.KindPolicyApproval, Revision: a.Revision, Commit: a.Commit, Repository: c.Repository, Message: f.cause}
	add := func(name, value string) {
		if value != "" {
			e.Attributes = append(e.Attributes, audit.Attribute{Name: name, Value: value})
		}
	}
	add("outcome", string(f.outcome))
	add("activated", at(a.At))
	add("commits", strconv.Itoa(max(len(a.Commits), 1)))
	if f.outcome == Approved {
		e.Message = "approved by an account that wrote none of it"
	}
	p := f.pull
	if p == nil {
		return e
	}
	add("pull_request", strconv.FormatInt(p.ID, 10))
	add("title", audit.Text(p.Title, maxTitle))
	add("destination", audit.Text(p.Destination, maxTitle))
	add("author_uuid", p.Author.UUID)
	add("author", audit.Text(p.Author.Name, maxName))
	add("merged_by_uuid", p.MergedBy.UUID)
	add("merged_by", audit.Text(p.MergedBy.Name, maxName))
	add("authors", people(persons(f.authors)))
	if f.unlinked > 0 {
		add("commits_of_unknown_authors", strconv.Itoa(f.unlinked))
	}
	var approvers, objections []person
	for _, one := range f.approvals {
		approvers = append(approvers, person{one.Account.UUID, one.Account.Name, at(one.At), one.author})
	}
	for _, r := range p.Reviews {
		if r.ChangesRequested {
			objections = append(objections, person{UUID: r.Account.UUID, Name: r.Account.Name, At: at(r.At)})
		}
	}
	add("approvers", people(approvers))
	if len(objections) > 0 {
		add("changes_requested_by", people(objections))
	}
	var others []string
	for _, id := range f.others {
		others = append(others, strconv.FormatInt(id, 10))
	}
	add("other_pull_requests", strings.Join(others, " "))
	return e
}

func persons(accounts []identity.Account) (list []person) {
	for _, a := range accounts {
		list = append(list, person{UUID: a.UUID, Name: a.Name})
	}
	return list
}
