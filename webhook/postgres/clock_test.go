package postgres

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
	"github.com/sallyport/sallyport/webhook"
)

// setClock sets the clock of the database, as far as the queue can see: all times that the
// database has written move the other way.
func setClock(t *testing.T, conn *pgx.Conn, by time.Duration) {
	t.Helper()
	pgtest.Exec(t, conn, `UPDATE webhook.streams SET lease_until = lease_until - $1::interval`, by)
	pgtest.Exec(t, conn, `UPDATE webhook.tasks SET not_before = not_before - $1::interval, leased_at = leased_at - $1::interval`, by)
	pgtest.Exec(t, conn, `UPDATE webhook.seen SET until = until - $1::interval`, by)
}

const day = 24 * time.Hour

// TestClockOfTheDatabaseIsSetBack: leases, pauses and keys of repetitions that were written
// before end within minutes.
func TestClockOfTheDatabaseIsSetBack(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	q, conn := newInstance(t, db.URL(database.Writer)), admin(t, db)
	first, second := delivery(repository(1), 1), delivery(repository(2), 2)
	accept(t, q, first, allowed("jenkins"))
	accept(t, q, second, allowed("jenkins"))
	leased := claim(t, q, "jenkins", time.Minute)
	waiting := claim(t, q, "jenkins", time.Minute)
	if err := q.Retry(t.Context(), *waiting, time.Now().Add(time.Minute), "status 500"); err != nil {
		t.Fatal(err)
	}
	if task := claim(t, q, "jenkins", time.Minute); task != nil {
		t.Fatalf("claimed before its time: %v", task)
	}
	setClock(t, conn, -day)
	tasks, err := q.Claim(t.Context(), "jenkins", 10, time.Minute)
	if err != nil || len(tasks) != 2 || tasks[0].ID != leased.ID || tasks[1].ID != waiting.ID {
		t.Errorf("%v, %v", tasks, err)
	}
	for _, task := range tasks {
		if !task.LeasedBefore.After(task.Leased.Add(day - time.Hour)) {
			t.Errorf("leased at %v, and before at %v", task.Leased, task.LeasedBefore)
		}
		if err := q.Done(t.Context(), task, webhook.TaskResult{Status: 200}); err != nil {
			t.Error(err)
		}
	}
	if err := q.Done(t.Context(), *leased, webhook.TaskResult{}); err == nil {
		t.Error("the lease from before is still valid")
	}
	accept(t, q, first, allowed("jenkins")) // its keys would last for a day more
}

// TestClockOfTheDatabaseIsSetForward: tasks can be claimed at once, and end by nothing but
// their result.
func TestClockOfTheDatabaseIsSetForward(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	q, conn := newInstance(t, db.URL(database.Writer)), admin(t, db)
	accept(t, q, delivery(repoUUID, 1), allowed("jenkins"))
	task := claim(t, q, "jenkins", time.Minute)
	if err := q.Retry(t.Context(), *task, time.Now().Add(time.Minute), "status 500"); err != nil {
		t.Fatal(err)
	}
	setClock(t, conn, day)
	again := claim(t, q, "jenkins", time.Minute)
	if again == nil || again.ID != task.ID || again.Attempt != 2 {
		t.Fatalf("%v", again)
	}
	if err := q.Done(t.Context(), *again, webhook.TaskResult{Status: 200}); err != nil {
		t.Error(err)
	}
}

// TestClockOfTheInstanceIsAhead: a pause is kept by the database's clock, and a body is
// deleted only if it is old by both clocks.
func TestClockOfTheInstanceIsAhead(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	q, conn := newInstance(t, db.URL(database.Writer)), admin(t, db)
	accept(t, q, delivery(repoUUID, 1), allowed("jenkins"))
	task := claim(t, q, "jenkins", time.Minute)
	// A time of an instance whose clock is a day ahead.
	if err := q.Retry(t.Context(), *task, time.Now().Add(day), "status 500"); err != nil {
		t.Fatal(err)
	}
	if wait := pgtest.Value[time.Duration](t, conn, `SELECT not_before - clock_timestamp() FROM webhook.tasks`); wait > maxPause {
		t.Errorf("the next attempt is in %v", wait)
	}
	expire(t, conn)
	if err := q.Done(t.Context(), *claim(t, q, "jenkins", time.Minute), webhook.TaskResult{Status: 200}); err != nil {
		t.Fatal(err)
	}
	old := func(now string) bool {
		return pgtest.Value[bool](t, conn, `SELECT received_at < `+forgetBefore+` FROM webhook.deliveries WHERE $2::int > 0`, now, 1, 7*day)
	}
	if old(time.Now().Add(30 * day).Format(time.RFC3339)) {
		t.Error("a body is old by one clock, and deleted")
	}
	pgtest.Exec(t, conn, `UPDATE webhook.deliveries SET received_at = received_at - interval '30 days'`)
	if !old(time.Now().Format(time.RFC3339)) || old(time.Now().Add(-30*day).Format(time.RFC3339)) {
		t.Error("the age of a body is not that of both clocks")
	}
}
