package postgres

import (
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
	"github.com/sallyport/sallyport/webhook"
)

// heldCommit is an instance whose commit of a delivery does not end: its disk is slow.
type heldCommit struct {
	server *pgtest.Server
	conn   *pgx.Conn
	result chan error
}

// holdCommit accepts a delivery over a session that is stopped inside its commit, with all
// the locks that a commit holds.
func holdCommit(t *testing.T, server *pgtest.Server, db *pgtest.DB, d *webhook.Delivery, decision webhook.Decision) *heldCommit {
	t.Helper()
	observer := pgtest.Connect(t, db.URL(""))
	h := &heldCommit{server, pgtest.Connect(t, db.URL(database.Writer)), make(chan error, 1)}
	statement, err := acceptStatement("01890a5d-ac96-774b-bcce-b302099a8057", d, decision)
	if err != nil {
		t.Fatal(err)
	}
	pid := h.conn.PgConn().PID()
	pgtest.Exec(t, h.conn, `SET synchronous_commit = on`)
	pgtest.Exec(t, h.conn, `BEGIN`)
	pgtest.Exec(t, h.conn, statement.SQL, statement.Args...)
	server.SynchronousStandby(t, "nobody")
	go func() {
		_, err := h.conn.Exec(t.Context(), `COMMIT`)
		h.result <- err
	}()
	pgtest.Eventually(t, "the commit waits", func() bool {
		return pgtest.Value[bool](t, observer, `SELECT coalesce(wait_event, '') = 'SyncRep' FROM pg_stat_activity WHERE pid = $1`, pid)
	})
	if err := syscall.Kill(int(pid), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	server.SynchronousStandby(t, "")
	return h
}

// end lets the commit end.
func (h *heldCommit) end(t *testing.T) {
	t.Helper()
	h.server.Thaw(t)
	if err := <-h.result; err != nil {
		t.Errorf("the held commit: %v", err)
	}
}

// everyAction has the actions that all deliveries of a receiver can share.
func everyAction() webhook.Decision {
	decision := allowed("jenkins")
	decision.Routes = append(decision.Routes, webhook.Route{Action: webhook.RefreshPolicy}, webhook.Route{Action: webhook.RefreshNames})
	return decision
}

// TestSlowCommitOfAnotherInstance: while the commit of one instance lasts, another accepts
// deliveries of the same repository for the same actions, new streams included, and ends
// tasks. Both notify.
func TestSlowCommitOfAnotherInstance(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t, pgtest.Options{})
	db := server.NewFrom(t, "sallyport", migrate)
	q := newInstance(t, db.URL(database.Writer))
	accept(t, q, delivery(repository(1), 1), allowed("jenkins"))
	task := claim(t, q, "jenkins", time.Minute)
	held := holdCommit(t, server, db, delivery(repository(2), 2), everyAction())
	accept(t, q, delivery(repository(2), 3), everyAction())
	accept(t, q, delivery(repository(3), 4), everyAction())
	if err := q.Done(t.Context(), *task, webhook.TaskResult{Status: 200}); err != nil {
		t.Error(err)
	}
	held.end(t)
	for n := range 3 {
		task := claim(t, q, "jenkins", time.Minute)
		if task == nil {
			t.Fatalf("%d tasks of 3 were claimed", n)
		}
		if err := q.Done(t.Context(), *task, webhook.TaskResult{Status: 200}); err != nil {
			t.Error(err)
		}
	}
}

// TestAcceptWithoutSharedLocksIsNeeded: if deliveries share a row, or notify in their
// transactions, the slow commit of one instance makes another refuse a delivery.
func TestAcceptWithoutSharedLocksIsNeeded(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t, pgtest.Options{})
	for name, change := range map[string]struct{ function, before, after string }{
		"row":          {"request_refresh", `nextval('webhook.policy_refreshes')`, `FROM webhook.seen WHERE key = 'shared' FOR UPDATE`},
		"notification": {"request_refresh", `nextval('webhook.policy_refreshes')`, `pg_notify('sallyport_webhook_refresh', name)`},
		"stream":       {"add_task", `INSERT INTO webhook.tasks`, `INSERT INTO webhook.streams (stream, endpoint) VALUES (stream, endpoint) ON CONFLICT DO NOTHING; INSERT INTO webhook.tasks`},
	} {
		t.Run(name, func(t *testing.T) {
			db := server.NewFrom(t, "sallyport", migrate)
			q, conn := newInstance(t, db.URL(database.Writer)), admin(t, db)
			pgtest.Exec(t, conn, `INSERT INTO webhook.seen (receiver, key, until, delivery) VALUES ('x', 'shared', now(), gen_random_uuid())`)
			source := pgtest.Value[string](t, conn, `SELECT pg_get_functiondef(('webhook.' || $1)::regproc)`, change.function)
			pgtest.Exec(t, conn, replaced(t, source, change.before, change.after))
			held := holdCommit(t, server, db, delivery(repository(2), 2), everyAction())
			if outcome, err := q.Accept(t.Context(), delivery(repository(2), 3), everyAction()); err == nil {
				t.Errorf("the delivery was not refused: %v", outcome)
			}
			held.end(t)
		})
	}
}
