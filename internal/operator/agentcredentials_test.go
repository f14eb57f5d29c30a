package operator

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/admin"
	"github.com/sallyport/sallyport/webhook/agent"
)

// credentialStore keeps credentials in memory.
type credentialStore struct{ list []agent.StoredCredential }

func (s *credentialStore) Add(_ context.Context, c agent.Credential, description, by string) error {
	s.list = append(s.list, agent.StoredCredential{ID: c.ID, Endpoint: c.Endpoint, Description: description, CreatedBy: by, CreatedAt: time.Unix(1, 0)})
	return nil
}

func (s *credentialStore) List(context.Context) ([]agent.StoredCredential, error) { return s.list, nil }

func (s *credentialStore) Revoke(_ context.Context, id, by, reason string) (bool, error) {
	for i := range s.list {
		if s.list[i].ID == id {
			s.list[i].RevokedAt, s.list[i].RevokedBy, s.list[i].RevokedReason = time.Unix(2, 0), by, reason
			return true, nil
		}
	}
	return false, nil
}

func TestAgentCredentials(t *testing.T) {
	i, store := &instance{}, &credentialStore{}
	ops := Operations(Config{Record: i.record, Agents: store, AgentEndpoints: []string{"jenkins"}, Log: slog.New(slog.DiscardHandler)}).Agents
	for _, r := range []admin.AgentCredentialRequest{{}, {Endpoint: "public"}, {Endpoint: "jenkins", Description: strings.Repeat("x", maxReason+1)}} {
		if _, err := ops.Create(t.Context(), ada, r); !isMistake(err) {
			t.Errorf("%+v: %v", r, err)
		}
	}
	made, err := ops.Create(t.Context(), ada, admin.AgentCredentialRequest{Endpoint: "jenkins", Description: "build-1"})
	if err != nil || !strings.Contains(made.Credential, made.ID) || len(i.events) != 1 || i.events[0].Action != actionAgentCredentialCreated {
		t.Fatalf("%+v, %v, recorded %v", made, err, i.events)
	}
	for _, a := range i.events[0].Attributes {
		if strings.Contains(a.Value, made.Credential[len(made.Credential)-64:]) {
			t.Error("the event has the secret")
		}
	}
	for _, r := range []admin.AgentCredentialRevocation{{ID: made.ID}, {ID: "other", Reason: "lost"}} {
		if _, err := ops.Revoke(t.Context(), ada, r); !isMistake(err) {
			t.Errorf("%+v: %v", r, err)
		}
	}
	if _, err := ops.Revoke(t.Context(), ada, admin.AgentCredentialRevocation{ID: made.ID, Reason: "lost"}); err != nil || len(i.events) != 2 {
		t.Errorf("%v, recorded %v", err, i.events)
	}
	if _, err := ops.Revoke(t.Context(), ada, admin.AgentCredentialRevocation{ID: made.ID, Reason: "again"}); !isMistake(err) {
		t.Errorf("revoked twice: %v", err)
	}
	if list, err := ops.List(t.Context()); err != nil || len(list) != 1 || list[0].RevokedAt == nil || list[0].LastUsedAt != nil {
		t.Errorf("%+v, %v", list, err)
	}
	// Nothing is created that the log does not have.
	i.recordErr = errors.New("unavailable")
	if _, err := ops.Create(t.Context(), ada, admin.AgentCredentialRequest{Endpoint: "jenkins"}); err == nil || len(store.list) != 1 {
		t.Errorf("not recorded: %v, %d credentials", err, len(store.list))
	}
	if Operations(Config{}).Agents != nil {
		t.Error("there are operations on credentials without a store")
	}
}

func isMistake(err error) bool {
	_, ok := errors.AsType[*admin.Mistake](err)
	return ok
}
