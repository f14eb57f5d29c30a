package audit

import (
	"testing"
	"time"
)

// TestReadContinued reads what a would_close event has of its tunnel, and nothing of other
// kinds.
func TestReadContinued(t *testing.T) {
	e := &Event{Time: time.Unix(1, 0), Kind: KindWouldClose, DecisionID: "01a1fdf4-c192-7cf7-900b-000000000001", CloseReason: "hello_encrypted",
		WorkspaceUUID: "922e118c-f34f-4226-a897-0e0afbec553d", RepositoryUUID: "11112222-3333-4444-5555-666677778888", DeploymentUUID: "aaaabbbb-cccc-4ddd-8eee-ffff00001111",
		Repository: "acme/payments", Deployment: "production", Host: "api.partner.example", Port: 443, Rule: "partner", CredentialKind: "bitbucket_oidc"}
	e.Normalise()
	want := Continued{Time: e.Time.UTC(), DecisionID: e.DecisionID, CredentialKind: e.CredentialKind, WorkspaceUUID: e.WorkspaceUUID, RepositoryUUID: e.RepositoryUUID,
		DeploymentUUID: e.DeploymentUUID, Repository: e.Repository, Deployment: e.Deployment, Host: e.Host, Port: int(e.Port), Rule: e.Rule, CloseReason: e.CloseReason}
	if got, ok, err := ReadContinued(e.AppendRecord(nil)); err != nil || !ok || got != want {
		t.Errorf("%+v, %v, %v; want %+v", got, ok, err, want)
	}
	e.Kind = KindTunnelClosed
	for _, record := range [][]byte{e.AppendRecord(nil), nil, []byte("{"), []byte(`{"kind":"would_close"`)} {
		if _, ok, err := ReadContinued(record); ok || err != nil {
			t.Errorf("%q is read as a tunnel that continued, %v", record, err)
		}
	}
	damaged := []byte(`{"version":1,"time":"2026-10-02T01:00:00.000000Z","kind":"would_close","port":"https"}`)
	if _, ok, err := ReadContinued(damaged); ok || err == nil {
		t.Error("a damaged record is read")
	}
}
