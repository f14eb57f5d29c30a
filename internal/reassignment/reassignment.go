// Package reassignment records in the audit log that a name of a workspace, repository or
// deployment belongs to another UUID now.
package reassignment

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
)

// maxQueued bounds the reassignments that wait to be recorded. More are counted and logged
// only; the table identity.reassigned_names has all of them.
const maxQueued = 1000

const recordTimeout = 10 * time.Second

// Config configures a [Recorder]. Every field is required.
type Config struct {
	// Record records an event, and returns when it is durable.
	Record func(context.Context, *audit.Event) error
	// Count counts a reassignment of a kind.
	Count func(kind string)
	Log   *slog.Logger
}

// Recorder records reassignments of names. Its methods are safe for concurrent use.
type Recorder struct {
	config Config
	queue  chan identity.Reassignment
}

// New returns a recorder. [Recorder.Run] records what [Recorder.Add] adds.
func New(c Config) *Recorder {
	return &Recorder{config: c, queue: make(chan identity.Reassignment, maxQueued)}
}

// Add counts and logs a reassignment, and queues it to be recorded. It never blocks, and
// must not be called after [Recorder.Close].
func (r *Recorder) Add(m identity.Reassignment) {
	r.config.Count(m.Kind)
	r.config.Log.Warn("name reassigned", "kind", m.Kind, "name", m.Name, "from_uuid", m.FromUUID, "to_uuid", m.ToUUID)
	select {
	case r.queue <- m:
	default:
		r.config.Log.Error("name_reassigned event dropped: queue full", "kind", m.Kind, "name", m.Name)
	}
}

// Close ends [Recorder.Run] once the queue is empty.
func (r *Recorder) Close() { close(r.queue) }

// Run records queued reassignments until [Recorder.Close].
func (r *Recorder) Run() {
	for m := range r.queue {
		r.record(m)
	}
}

func (r *Recorder) record(m identity.Reassignment) {
	ctx, cancel := context.WithTimeout(context.Background(), recordTimeout)
	defer cancel()
	if err := r.config.Record(ctx, event(m)); err != nil {
		r.config.Log.Error("name_reassigned event not recorded", "kind", m.Kind, "name", m.Name, "error", err)
	}
}

// event returns the event of a reassigned name. Its fields have the present owner, as in a
// decision; its attributes also have the previous one.
func event(m identity.Reassignment) *audit.Event {
	e := &audit.Event{
		Time: time.Now(), Kind: audit.KindNameReassigned, WorkspaceUUID: m.WorkspaceUUID,
		Message: fmt.Sprintf("the %s %q was %s and is %s now", m.Kind, m.Name, m.FromUUID, m.ToUUID),
		Attributes: []audit.Attribute{
			{Name: "kind", Value: m.Kind}, {Name: "name", Value: m.Name},
			{Name: "from_uuid", Value: m.FromUUID}, {Name: "to_uuid", Value: m.ToUUID},
			{Name: "reassigned_at", Value: m.At.UTC().Format(time.RFC3339Nano)},
		},
	}
	switch m.Kind {
	case identity.NameOfRepository:
		e.RepositoryUUID, e.Repository = m.ToUUID, m.Name
	case identity.NameOfDeployment:
		e.RepositoryUUID, e.DeploymentUUID, e.Deployment = m.RepositoryUUID, m.ToUUID, m.Name
	default:
		e.WorkspaceUUID, e.Workspace = cmp.Or(m.WorkspaceUUID, m.ToUUID), m.Name
	}
	return e
}
