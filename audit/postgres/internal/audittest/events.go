package audittest

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
)

func AttributesOf(t *testing.T, record []byte) map[string]string {
	t.Helper()
	var recordFields struct{ Attributes map[string]string }
	if err := json.Unmarshal(record, &recordFields); err != nil {
		t.Fatal(err)
	}
	return recordFields.Attributes
}

// DigestOf is what policies are named by.
func DigestOf(content string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(content))) }

// NewUUID is a UUIDv7, for the ids of decisions, pipelines and steps.
func NewUUID(now time.Time) string {
	var b [16]byte
	_, _ = rand.Read(b[6:])
	ms := uint64(now.UnixMilli())
	for i := range 6 {
		b[i] = byte(ms >> (40 - 8*i))
	}
	b[6], b[8] = b[6]&0x0f|0x70, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

// Decision is an event like those that a gate records.
func Decision(verdict string, n int) *audit.Event {
	now := time.Now()
	return &audit.Event{
		Time: now, Kind: audit.KindDecision, DecisionID: NewUUID(now),
		Issuer: "https://api.bitbucket.org/2.0/workspaces/acme/pipelines-config/identity/oidc", CredentialKind: "bitbucket_oidc",
		WorkspaceUUID: "922e118c-f34f-4226-a897-0e0afbec553d", RepositoryUUID: fmt.Sprintf("11112222-3333-4444-5555-%012x", n%500),
		DeploymentUUID: "aaaabbbb-cccc-4ddd-8eee-ffff00001111", PipelineUUID: NewUUID(now), StepUUID: NewUUID(now),
		Workspace: "acme", Repository: fmt.Sprintf("acme/payments-%d", n%500), Project: "PAY",
		Deployment: "production-eu", DeploymentType: "production", Branch: "main",
		ClientAddress: netip.MustParseAddr("10.1.2.3"), Listener: "127.0.0.1:3128",
		Action: "connect", Scheme: "https", Host: fmt.Sprintf("api-%d.partner.example", n%200), Port: 443,
		Verdict: verdict, Mode: "enforce", Reason: "policy_allowed", Rule: "payments-partner", Rules: []string{"payments-partner"},
		Revision: DigestOf("content"), Status: 200,
		DialedAddress: netip.MustParseAddr("203.0.113.7"), Addresses: []netip.Addr{netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("2001:db8::7")},
		Input: []byte(`{"principal":{"kind":"bitbucket_step","workspace":{"uuid":"922e118c-f34f-4226-a897-0e0afbec553d","slug":"acme"},` +
			`"repository":{"uuid":"11112222-3333-4444-5555-666677778888","full_name":"acme/payments","project":"PAY"},` +
			`"deployment":{"uuid":"aaaabbbb-cccc-4ddd-8eee-ffff00001111","name":"Production EU","slug":"production-eu","type":"production"},` +
			`"pipeline":{"uuid":"5f0c1d2e-0000-4000-8000-000000000001"},"step":{"uuid":"5f0c1d2e-0000-4000-8000-000000000002"},"branch":"main"},` +
			`"action":"connect","target":{"host":"api.partner.example","port":443},"client":{"address":"10.1.2.3"},"time":"2026-11-21T08:40:00Z"}`),
	}
}

// FirstOfMonth is the beginning of a month, in UTC.
func FirstOfMonth(at time.Time) time.Time {
	year, month, _ := at.UTC().Date()
	return time.Date(year, month, 1, 0, 0, 0, 0, time.UTC)
}

// OldMonth is a month that retention may remove.
func OldMonth() time.Time { return FirstOfMonth(time.Now().AddDate(0, -18, 0)) }

// EndOf is the event of the end of a decision.
func EndOf(e *audit.Event, at time.Time) *audit.Event {
	end := &audit.Event{Time: at, Kind: audit.KindTunnelClosed, DecisionID: e.DecisionID, Status: 503, CloseReason: "audit_unavailable"}
	end.Normalise()
	return end
}

// RecordDenial records a refusal of that step.
func RecordDenial(t *testing.T, l Recorder, p *identity.Principal, n int, at time.Time) *audit.Event {
	t.Helper()
	e := Decision("deny", n)
	e.Time, e.Reason, e.Status, e.Message = at, "policy_denied", 403, "ask them"
	e.Issuer, e.WorkspaceUUID, e.RepositoryUUID, e.StepUUID = p.Issuer, p.Workspace.UUID, p.Repository.UUID, p.Step.UUID
	kept := *e
	Record(t, l, e)
	return &kept
}

func StepOf(repository, step string) *identity.Principal {
	return &identity.Principal{Issuer: "https://issuer.test", Workspace: identity.Workspace{UUID: "922e118c-f34f-4226-a897-0e0afbec553d"},
		Repository: identity.Repository{UUID: repository}, Step: identity.Run{UUID: step}}
}
