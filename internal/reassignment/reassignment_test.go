package reassignment

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
)

func TestEventNamesThePresentOwner(t *testing.T) {
	for _, tt := range []struct {
		name  string
		moved identity.Reassignment
		want  audit.Event
	}{
		{"repository", identity.Reassignment{Kind: identity.NameOfRepository, WorkspaceUUID: "w", Name: "acme/payments", FromUUID: "old", ToUUID: "new"},
			audit.Event{WorkspaceUUID: "w", RepositoryUUID: "new", Repository: "acme/payments"}},
		{"deployment", identity.Reassignment{Kind: identity.NameOfDeployment, WorkspaceUUID: "w", RepositoryUUID: "r", Name: "production", FromUUID: "old", ToUUID: "new"},
			audit.Event{WorkspaceUUID: "w", RepositoryUUID: "r", DeploymentUUID: "new", Deployment: "production"}},
		{"workspace", identity.Reassignment{Kind: "workspace", Name: "acme", FromUUID: "old", ToUUID: "new"},
			audit.Event{WorkspaceUUID: "new", Workspace: "acme"}},
	} {
		got := event(tt.moved)
		if got.Kind != audit.KindNameReassigned || got.WorkspaceUUID != tt.want.WorkspaceUUID || got.Workspace != tt.want.Workspace ||
			got.RepositoryUUID != tt.want.RepositoryUUID || got.Repository != tt.want.Repository ||
			got.DeploymentUUID != tt.want.DeploymentUUID || got.Deployment != tt.want.Deployment {
			t.Errorf("%s: %+v", tt.name, got)
		}
		attributes := map[string]string{}
		for _, a := range got.Attributes {
			attributes[a.Name] = a.Value
		}
		if attributes["from_uuid"] != "old" || attributes["to_uuid"] != "new" || attributes["name"] != tt.moved.Name || attributes["kind"] != tt.moved.Kind {
			t.Errorf("%s: %v", tt.name, attributes)
		}
	}
}

// TestEachReassignmentIsCounted: a full queue drops events and never blocks; each
// reassignment is counted and logged, and Run records those in the queue before it ends.
func TestEachReassignmentIsCounted(t *testing.T) {
	var log bytes.Buffer
	counted, recorded := 0, 0
	r := New(Config{
		Record: func(context.Context, *audit.Event) error { recorded++; return nil },
		Count:  func(string) { counted++ },
		Log:    slog.New(slog.NewTextHandler(&log, nil)),
	})
	for range maxQueued + 2 {
		r.Add(identity.Reassignment{Kind: identity.NameOfRepository, Name: "acme/payments"})
	}
	r.Close()
	r.Run()
	if counted != maxQueued+2 || recorded != maxQueued {
		t.Errorf("counted %d and recorded %d", counted, recorded)
	}
	if n := strings.Count(log.String(), "name_reassigned event dropped"); n != 2 {
		t.Errorf("%d dropped events are logged", n)
	}
}

func TestFailureToRecordIsLogged(t *testing.T) {
	var log bytes.Buffer
	r := New(Config{
		Record: func(context.Context, *audit.Event) error { return errors.New("no database") },
		Count:  func(string) {},
		Log:    slog.New(slog.NewTextHandler(&log, nil)),
	})
	r.Add(identity.Reassignment{Kind: identity.NameOfRepository, Name: "acme/payments"})
	r.Close()
	r.Run()
	if !strings.Contains(log.String(), "name_reassigned event not recorded") || !strings.Contains(log.String(), "no database") {
		t.Errorf("logged %s", log.String())
	}
}
