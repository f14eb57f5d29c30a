package reconcile

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/bitbuckettest"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/uuid"
)

// forger is a session of the login that records, which is not a server.
type forger struct {
	*env
	conn *pgx.Conn
	name string // of its own writer
	sent int
}

func (h *env) forger() *forger {
	h.t.Helper()
	config, err := database.ParseConfig(h.db.URL(database.Writer), "forger")
	if err != nil {
		h.t.Fatal(err)
	}
	conn, err := database.Connect(h.t.Context(), config)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = conn.Close(h.t.Context()) })
	digest := sha256.Sum256([]byte("mine"))
	f := &forger{env: h, conn: conn, name: "01a22b5ca7d4-" + base64.RawURLEncoding.EncodeToString(digest[:16])}
	f.exec(`SELECT set_config('sallyport.writer_secret', 'mine', false)`)
	return f
}

func (f *forger) exec(sql string, args ...any) {
	f.t.Helper()
	if _, err := f.conn.Exec(f.t.Context(), sql, args...); err != nil {
		f.t.Fatalf("%s: %v", sql, err)
	}
}

// seen adds a finding by which a step used Sallyport.
func (f *forger) seen(s *bitbuckettest.Step, at time.Time) {
	f.t.Helper()
	f.exec(`INSERT INTO audit.deployment_findings (deployment_run_uuid, repository_uuid, workspace_uuid, reconciliation, deployment_uuid, pipeline_uuid, step_uuid,
			found_at, created_at, started_at, completed_at, state, class, detail)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, $8, $8, 'successful', 'observed', '')`,
		s.DeploymentUUID(), f.payments.UUID, f.acme.UUID, uuid.NewV7(at), f.eu.UUID, s.Pipeline.UUID, s.UUID, at)
}

// reconciled adds the rows and the event of a whole reconciliation at a time.
func (f *forger) reconciled(id string, at time.Time) {
	f.t.Helper()
	f.exec(`INSERT INTO audit.reconciliation_scans (reconciliation, workspace_uuid, repository_uuid, scanned_at, complete_until, requests, runs, in_order, whole, repository, outcome, detail)
		VALUES ($1, $2, $3, $4, $4, 1, 1, true, true, 'acme/payments', 'complete', '')`, id, f.acme.UUID, f.payments.UUID, at)
	f.sent++
	record := fmt.Sprintf(`{"attributes":{"reconciliation":%q,"outcome":"whole","until":%q}}`, id, at.UTC().Format(time.RFC3339))
	f.exec(`INSERT INTO audit.events (time, kind, writer, writer_sequence, workspace_uuid, record) VALUES ($1, 'reconciled', $2, $3, $4, convert_to($5, 'UTF8'))`,
		f.clock(), f.name, f.sent, f.acme.UUID, record)
}

// TestForgedFinding: a finding that the recording login adds does not make a deployment
// appear as observed. The next reconciliation compares with the log again.
func TestForgedFinding(t *testing.T) {
	h := build(t)
	f, s, later := h.forger(), h.deploy(), h.deploy()
	f.seen(s, h.clock())
	h.runOnce()
	if h.class(s) != "unobserved" {
		t.Errorf("it is %s", h.class(s))
	}
	f.seen(later, h.clock().Add(time.Minute)) // a row of this moment exists
	if h.class(later) != "observed" {
		t.Fatal("the finding is not the latest")
	}
	h.runOnce()
	if all, different := h.events(audit.KindDeploymentUnobserved); h.class(later) != "unobserved" || all != 2 || different != 2 {
		t.Errorf("it is %s after it was found, and %d events report %d deployments", h.class(later), all, different)
	}
}

// TestForgedReconciliations: whatever reconciliations the recording login reports in the
// name of others, an instance reconciles by itself, reads lists as far as it has to, and
// reports no success of the future or while its own reconciliation fails.
func TestForgedReconciliations(t *testing.T) {
	h := build(t)
	f := h.forger()
	h.runOnce()
	first := h.clock()
	f.reconciled("ffffffff-ffff-7fff-bfff-ffffffffffff", first.AddDate(1, 0, 0))
	s := h.deploy()
	h.runOnce()
	if h.class(s) != "unobserved" {
		t.Errorf("after one of the future it is %q", h.class(s))
	}
	h.api.fail = func(string, string) error { return errAway }
	h.runOnce()
	f.reconciled(uuid.NewV7(h.clock()), h.clock())
	h.due = map[string]time.Time{}
	if err := h.round(t.Context()); err != nil {
		t.Fatal(err)
	}
	if at := h.Status().LastSuccess; at.After(first.Add(2 * time.Hour)) {
		t.Errorf("the latest success is %s, and that was forged", at.Sub(first))
	}
}

// TestOwnReconciliationIsNeeded: the recording login reports a reconciliation in every
// interval. An instance that leaves them all to others never finds the deployment.
func TestOwnReconciliationIsNeeded(t *testing.T) {
	for _, needed := range []bool{true, false} {
		h := build(t)
		f := h.forger()
		h.runOnce()
		if !needed {
			h.own[h.acme.UUID] = h.clock().AddDate(1, 0, 0)
		}
		s := h.deploy()
		for range ownEvery + 1 {
			h.pass(time.Hour)
			f.reconciled(uuid.NewV7(h.clock()), h.clock())
			if err := h.round(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if found := h.class(s) == "unobserved"; found != needed {
			t.Errorf("reconciles by itself: %t, found: %t", needed, found)
		}
	}
}

// TestOwnMarkIsNeeded: rows report that a list was read whole a moment ago. An instance
// that believes them reads one page, and misses what is on the next.
func TestOwnMarkIsNeeded(t *testing.T) {
	for _, needed := range []bool{true, false} {
		h := build(t)
		f, s := h.forger(), h.deploy()
		h.pass(12 * time.Hour)
		for range 150 { // these are observed
			h.decided(h.deploy())
		}
		h.pass(12 * time.Hour)
		f.reconciled(uuid.NewV7(h.clock().Add(-2*time.Hour)), h.clock())
		if !needed {
			h.marks[h.payments.UUID] = mark{at: h.clock(), inOrder: true, wholeAt: h.clock()}
		}
		h.runOnce()
		if found := h.class(s) == "unobserved"; found != needed {
			t.Errorf("reads by its own mark: %t, found: %t", needed, found)
		}
	}
}
