package postgres

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
	"github.com/sallyport/sallyport/webhook"
)

// full makes a table refuse rows as on a full disk (SQLSTATE 53100), at once or at the commit.
const full = `CREATE FUNCTION public.full() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$;
	CREATE CONSTRAINT TRIGGER disk_full AFTER INSERT OR UPDATE ON %s DEFERRABLE INITIALLY %s FOR EACH ROW EXECUTE FUNCTION public.full()`

// TestFullDisk: while the disk is full, in one table or at the commit, nothing is accepted, and
// nothing of a delivery that was refused stays. A task is not ended. Both succeed once there is
// space again, without a restart, and the sender's repetition is accepted.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	for _, table := range []string{"webhook.deliveries", "webhook.tasks", "webhook.seen"} {
		for _, when := range []string{"IMMEDIATE", "DEFERRED"} {
			t.Run(table+" "+when, func(t *testing.T) {
				t.Parallel()
				db := migrated(t)
				q, conn := newInstance(t, db.URL(database.Writer)), admin(t, db)
				accept(t, q, delivery(repository(1), 1), allowed("jenkins"))
				task := claim(t, q, "jenkins", time.Minute)
				pgtest.Exec(t, conn, fmt.Sprintf(full, table, when))
				d := delivery(repository(2), 2)
				for range 3 {
					outcome, err := q.Accept(t.Context(), d, allowed("jenkins"))
					if err == nil || outcome == webhook.Accepted || outcome == webhook.Repeated {
						t.Errorf("%v, %v", outcome, err)
					}
				}
				if table == "webhook.tasks" {
					if err := q.Done(t.Context(), *task, webhook.TaskResult{Status: 200}); err == nil || errors.Is(err, webhook.ErrLeaseLost) {
						t.Errorf("the task is ended: %v", err)
					}
				}
				if n := pgtest.Value[int](t, conn, `SELECT (SELECT count(*) FROM webhook.deliveries)::int + (SELECT count(*) FROM webhook.tasks)::int + (SELECT count(*) FROM webhook.seen)::int`); n != 4 {
					t.Errorf("%d rows, and those of the first delivery are 4", n)
				}
				pgtest.Exec(t, conn, `DROP TRIGGER disk_full ON `+table)
				pgtest.Eventually(t, "recovery", func() bool {
					outcome, err := q.Accept(t.Context(), d, allowed("jenkins"))
					return err == nil && outcome == webhook.Accepted
				})
				if err := q.Done(t.Context(), *task, webhook.TaskResult{Status: 200}); err != nil {
					t.Errorf("the task after the recovery: %v", err)
				}
				for _, wrong := range contradictions(t, conn) {
					t.Error(wrong)
				}
				// Each refused delivery that has an event has one that states it.
				if n := pgtest.Value[int](t, conn, `SELECT count(*)::int FROM audit.webhook_deliveries v WHERE (unqueued IS NULL) <> EXISTS (SELECT FROM webhook.deliveries x WHERE x.id = v.decision_id)`); n != 0 {
					t.Errorf("%d events contradict the queue", n)
				}
			})
		}
	}
}

// TestFullDiskOfTheLog: if the event cannot be written, its delivery is not accepted.
func TestFullDiskOfTheLog(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	q, conn := newInstance(t, db.URL(database.Writer)), admin(t, db)
	accept(t, q, delivery(repository(1), 1), allowed("jenkins"))
	pgtest.Exec(t, conn, `CREATE FUNCTION public.full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'No space left on device' USING ERRCODE = 'disk_full'; END $$`)
	pgtest.Exec(t, conn, `CREATE TRIGGER disk_full BEFORE INSERT ON audit.events FOR EACH ROW EXECUTE FUNCTION public.full()`)
	d := delivery(repository(2), 2)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second) // a receiver's is 3 s
	defer cancel()
	outcome, err := q.Accept(ctx, d, allowed("jenkins"))
	if err == nil || errors.Is(err, audit.ErrRefused) || outcome == webhook.Accepted {
		t.Errorf("%v, %v", outcome, err)
	}
	if n := pgtest.Value[int](t, conn, `SELECT count(*)::int FROM webhook.deliveries`); n != 1 {
		t.Errorf("%d deliveries", n)
	}
	pgtest.Exec(t, conn, `DROP TRIGGER disk_full ON audit.events`)
	pgtest.Eventually(t, "recovery", func() bool {
		outcome, err := q.Accept(t.Context(), d, allowed("jenkins"))
		return err == nil && (outcome == webhook.Accepted || outcome == webhook.Repeated)
	})
	for _, wrong := range contradictions(t, conn) {
		t.Error(wrong)
	}
}
