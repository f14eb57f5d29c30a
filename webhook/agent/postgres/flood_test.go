package postgres

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/pgtest"
	"github.com/sallyport/sallyport/webhook/agent"
)

// statements returns how many reads and updates of the credentials the sessions have made that
// are closed.
func statements(t *testing.T, db *pgtest.DB) (reads, updates int) {
	t.Helper()
	conn := pgtest.Connect(t, db.URL(pgtest.Superuser))
	pgtest.Eventually(t, "the sessions are closed", func() bool {
		return pgtest.Value[int](t, conn, `SELECT count(*)::int FROM pg_stat_activity WHERE application_name = 'sallyport webhook agents' AND datname = current_database()`) == 0
	})
	const of = ` FROM pg_stat_user_tables WHERE relname = 'agent_credentials'`
	return pgtest.Value[int](t, conn, `SELECT (seq_scan + coalesce(idx_scan, 0))::int`+of), pgtest.Value[int](t, conn, `SELECT n_tup_upd::int`+of)
}

// flood looks unknown ids up for two seconds, and a valid credential beside them.
func flood(t *testing.T, c *Credentials, valid string) (attempts, uses int) {
	t.Helper()
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); uses++ {
		var wg sync.WaitGroup
		for range 8 {
			attempts++
			wg.Go(func() {
				if _, err := c.Find(t.Context(), fmt.Sprintf("%016x", attempts)); !errors.Is(err, agent.ErrCredential) {
					t.Errorf("an unknown id: %v", err)
				}
			})
			wg.Wait()
		}
		if _, err := c.Find(t.Context(), valid); err != nil {
			t.Errorf("a valid credential: %v", err)
		}
		c.Used(t.Context(), valid)
	}
	return attempts, uses
}

// TestUnknownCredentialsCostNoQueries: a flood of unknown ids costs one query a second in
// total. A valid credential costs one query for each request and one update for each minute.
// Without the list of ids, each attempt costs a query.
func TestUnknownCredentialsCostNoQueries(t *testing.T) {
	for name, without := range map[string]bool{"control": false, "needed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, db := opened(t)
			_, stored := agent.NewCredential("jenkins")
			if err := c.Add(t.Context(), stored, "", "root"); err != nil {
				t.Fatal(err)
			}
			if without {
				c.known.read = time.Now().Add(time.Hour) // never read again, and not read
			}
			attempts, uses := flood(t, c, stored.ID)
			c.Close()
			reads, updates := statements(t, db)
			t.Logf("%d attempts, %d uses: %d reads, %d updates", attempts, uses, reads, updates)
			// One read for each use and the update, and a few for the ids.
			if others := reads - uses - 1; (others > 4) != without || updates != 1 {
				t.Errorf("%d attempts and %d uses cost %d reads and %d updates", attempts, uses, reads, updates)
			}
		})
	}
}

// TestNewCredentialIsFound: the list of ids delays a new credential by a second at most, and
// a failed read of it is an error, not a refusal.
func TestNewCredentialIsFound(t *testing.T) {
	t.Parallel()
	c, db := opened(t)
	if _, err := c.Find(t.Context(), strings.Repeat("0", 16)); !errors.Is(err, agent.ErrCredential) {
		t.Fatal(err)
	}
	_, stored := agent.NewCredential("jenkins")
	if err := c.Add(t.Context(), stored, "", "root"); err != nil {
		t.Fatal(err)
	}
	pgtest.Eventually(t, "the new credential is found", func() bool {
		_, err := c.Find(t.Context(), stored.ID)
		return err == nil
	})
	conn := pgtest.Connect(t, db.URL(pgtest.Superuser))
	pgtest.Exec(t, conn, `REVOKE SELECT ON webhook.agent_credentials FROM sallyport_writer`)
	pgtest.Eventually(t, "the error is reported", func() bool {
		_, err := c.Find(t.Context(), strings.Repeat("1", 16))
		return err != nil && !errors.Is(err, agent.ErrCredential)
	})
	pgtest.Exec(t, conn, `GRANT SELECT ON webhook.agent_credentials TO sallyport_writer`)
	pgtest.Eventually(t, "recovery", func() bool {
		_, err := c.Find(t.Context(), strings.Repeat("1", 16))
		return errors.Is(err, agent.ErrCredential)
	})
}
