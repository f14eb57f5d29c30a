package server

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	identitypg "github.com/sallyport/sallyport/identity/postgres"
)

// maxReassignments wait to be recorded; what is more is counted and logged, and stands
// in identity.reassigned_names.
const maxReassignments = 1000

// nameReassigned takes a name that belongs to another UUID now, once for all
// instances. It does not block. The store calls it while it runs.
func (s *server) nameReassigned(m identitypg.Reassignment) {
	s.identityMetrics.NameReassigned(m.Kind)
	s.log.Warn("name reassigned", "kind", m.Kind, "name", m.Name, "from_uuid", m.FromUUID, "to_uuid", m.ToUUID)
	select {
	case s.reassignments <- m:
	default:
		s.log.Error("name_reassigned event dropped: queue full", "kind", m.Kind, "name", m.Name)
	}
}

// recordMoves records names that have passed to another until the channel is closed.
func (s *server) recordMoves() {
	for m := range s.reassignments {
		s.recordReassignment(m)
	}
}

func (s *server) recordReassignment(m identitypg.Reassignment) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.audit.Record(ctx, reassignmentEvent(m)); err != nil {
		s.log.Error("name_reassigned event not recorded", "kind", m.Kind, "name", m.Name, "error", err)
	}
}

// reassignmentEvent returns the event of a reassigned name. Its fields have the present owner, as
// in a decision; its attributes also have the previous one.
func reassignmentEvent(m identitypg.Reassignment) *audit.Event {
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
