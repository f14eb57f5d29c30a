package postgres

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
	"github.com/sallyport/sallyport/webhook/agent"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// opened returns a store as the writer, and its database.
func opened(t *testing.T) (*Credentials, *pgtest.DB) {
	t.Helper()
	db := pgtest.NewFrom(t, "sallyport", func(ctx context.Context, url string) error {
		_, _, err := database.Migrate(ctx, url, nil)
		return err
	})
	c, err := Open(t.Context(), db.URL("sallyport_writer"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, db
}

func TestCredentials(t *testing.T) {
	c, db := opened(t)
	if at, err := c.Oldest(t.Context()); err != nil || !at.IsZero() {
		t.Errorf("the age of no credential: %v, %v", at, err)
	}
	text, stored := agent.NewCredential("jenkins")
	if err := c.Add(t.Context(), stored, "beside jenkins", "root (uid 0)"); err != nil {
		t.Fatal(err)
	}
	found, err := c.Find(t.Context(), stored.ID)
	if err != nil || found != stored {
		t.Errorf("found %+v, %v", found, err)
	}
	if _, err := c.Find(t.Context(), strings.Repeat("0", 16)); !errors.Is(err, agent.ErrCredential) {
		t.Errorf("an unknown id: %v", err)
	}
	if list, err := c.List(t.Context()); err != nil || !list[0].LastUsedAt.IsZero() {
		t.Errorf("used before: %+v, %v", list, err)
	}
	c.Used(t.Context(), stored.ID)
	list, err := c.List(t.Context())
	if err != nil || len(list) != 1 || list[0].Endpoint != "jenkins" || list[0].CreatedBy != "root (uid 0)" || list[0].LastUsedAt.IsZero() || !list[0].RevokedAt.IsZero() {
		t.Errorf("list %+v, %v", list, err)
	}
	if at, err := c.Oldest(t.Context()); err != nil || !at.Equal(list[0].CreatedAt) {
		t.Errorf("the oldest is of %v, %v", at, err)
	}
	// The text is nowhere in the database.
	conn := pgtest.Connect(t, db.URL(pgtest.Superuser))
	if n := pgtest.Value[int](t, conn, `SELECT count(*)::int FROM webhook.agent_credentials c WHERE c::text LIKE '%' || $1 || '%'`, text[len(text)-64:]); n != 0 {
		t.Error("the secret is stored")
	}
	if revoked, err := c.Revoke(t.Context(), stored.ID, "root (uid 0)", "the machine was sold"); err != nil || !revoked {
		t.Fatalf("revoke: %v, %v", revoked, err)
	}
	if revoked, err := c.Revoke(t.Context(), stored.ID, "root (uid 0)", "again"); err != nil || revoked {
		t.Errorf("revoke again: %v, %v", revoked, err)
	}
	if _, err := c.Find(t.Context(), stored.ID); !errors.Is(err, agent.ErrCredential) {
		t.Errorf("a revoked credential: %v", err)
	}
	if list, err := c.List(t.Context()); err != nil || list[0].RevokedReason != "the machine was sold" {
		t.Errorf("list %+v, %v", list, err)
	}
}

// TestRevocationIsFinal has statements of a stolen writer login.
func TestRevocationIsFinal(t *testing.T) {
	c, db := opened(t)
	_, stored := agent.NewCredential("jenkins")
	if err := c.Add(t.Context(), stored, "", "root"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Revoke(t.Context(), stored.ID, "root", "lost"); err != nil {
		t.Fatal(err)
	}
	writer, owner := pgtest.Connect(t, db.URL("sallyport_writer")), pgtest.Connect(t, db.URL(pgtest.Superuser))
	const unrevoke = "UPDATE webhook.agent_credentials SET revoked_at = NULL, revoked_by = NULL, revoked_reason = NULL"
	for _, statement := range []string{
		unrevoke,
		"UPDATE webhook.agent_credentials SET revoked_reason = 'another'",
		"UPDATE webhook.agent_credentials SET endpoint = 'other'",
		"UPDATE webhook.agent_credentials SET digest = decode(repeat('00', 32), 'hex')",
		"DELETE FROM webhook.agent_credentials",
		"TRUNCATE webhook.agent_credentials",
	} {
		if _, err := writer.Exec(t.Context(), statement); err == nil {
			t.Errorf("the writer may %s", statement)
		}
		if _, err := owner.Exec(t.Context(), statement); pgtest.SQLState(err) != "23001" {
			t.Errorf("the owner may %s: %v", statement, err)
		}
	}
	// Without the trigger, the writer's grant is enough.
	pgtest.Exec(t, owner, "ALTER TABLE webhook.agent_credentials DISABLE TRIGGER refuse_change")
	pgtest.Exec(t, writer, unrevoke)
	if _, err := c.Find(t.Context(), stored.ID); err != nil {
		t.Errorf("the attack fails without the control: %v", err)
	}
}

// TestAuditorReadsNoCredential: digests and keys are for the gateway only.
func TestAuditorReadsNoCredential(t *testing.T) {
	_, db := opened(t)
	for _, role := range []string{"sallyport_auditor", "sallyport_sealer"} {
		conn := pgtest.Connect(t, db.URL(role))
		if _, err := conn.Exec(t.Context(), "SELECT * FROM webhook.agent_credentials"); pgtest.SQLState(err) != "42501" {
			t.Errorf("%s: %v", role, err)
		}
	}
}
