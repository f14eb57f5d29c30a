package canonical

import (
	_ "embed"
	"errors"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/webhook"
)

// DeliverySchema is the JSON schema (draft 7) of the input that [Delivery] writes.
//
//go:embed delivery.json
var DeliverySchema []byte

// TimeLayout is RFC 3339 in UTC with up to six digits of a second.
const TimeLayout = "2006-01-02T15:04:05.999999Z"

// Delivery writes the input about a verified delivery, as a value and as JSON. The time is
// that of its reception, in UTC and whole microseconds. It is an error if the delivery
// lacks its event, its receiver or its time: no rule could be about such a delivery.
func Delivery(d *webhook.Delivery) (value *ast.Term, json []byte, err error) {
	switch {
	case d == nil || d.Event == nil:
		return nil, nil, errors.New("the delivery has no event")
	case d.Receiver == "":
		return nil, nil, errors.New("the delivery has no receiver")
	case d.Received.IsZero():
		return nil, nil, errors.New("the delivery has no time")
	}
	e := d.Event
	w := &Writer{}
	w.Text("receiver", d.Receiver)
	w.Text("kind", e.Kind.String())
	w.Text("event", e.Key)
	w.repository(e.Repository)
	w.List("refs", len(e.Refs), func(i int) {
		r := &e.Refs[i]
		w.Text("type", string(r.Type))
		w.Text("name", r.Name)
		w.Text("change", string(r.Change))
		w.Optional("old", r.Old)
		w.Optional("new", r.New)
	})
	w.Bool("incomplete", e.Incomplete)
	if pr := e.PullRequest; pr != nil {
		w.Object("pull_request", func() {
			w.Number("id", pr.ID)
			w.Text("state", pr.State)
			w.side("source", &pr.Source)
			w.side("destination", &pr.Destination)
			w.Optional("merge_commit", pr.MergeCommit)
		})
	}
	w.Object("actor", func() {
		w.Optional("uuid", e.Actor.UUID)
		w.id(e.Actor.ID)
		w.Optional("kind", e.Actor.Kind)
	})
	w.Object("client", func() {
		address := ""
		if d.Client.IsValid() {
			address = d.Client.String()
		}
		w.Text("address", address)
	})
	w.Text("time", d.Received.UTC().Truncate(time.Microsecond).Format(TimeLayout))
	value, json = w.End()
	return value, json, nil
}

// repository writes a repository; nil is not written.
func (w *Writer) repository(r *webhook.Repository) {
	if r == nil {
		return
	}
	w.Object("repository", func() {
		w.Optional("uuid", r.UUID)
		w.id(r.ID)
		w.Text("full_name", r.FullName)
		w.Optional("project", r.Project)
	})
}

// id writes a number of Data Center; 0 is not written.
func (w *Writer) id(n int64) {
	if n != 0 {
		w.Number("id", n)
	}
}

// side writes one side of a pull request.
func (w *Writer) side(name string, s *webhook.Side) {
	w.Object(name, func() {
		w.repository(s.Repository)
		w.Text("branch", s.Branch)
		w.Optional("commit", s.Commit)
	})
}

// FolderName returns the folder below repositories/ in which the repository of a delivery has
// its rules: the full name in lower case. Data Center writes the keys of projects in upper
// case, and both products compare names without regard to case, as a receiver's list of
// repositories does: a sender does not avoid the rules by another spelling.
func FolderName(fullName string) string { return strings.ToLower(fullName) }
