package postgres

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
	"github.com/sallyport/sallyport/webhook"
)

// kindsOf are the events about a delivery, in order, with attribute final or cause.
func kindsOf(t testing.TB, conn *pgx.Conn, delivery string) []string {
	t.Helper()
	return pgtest.Texts(t, conn, `SELECT concat_ws(' ', kind, x ->> 'final', x ->> 'cause', x ->> 'attempts', x ->> 'status')
		FROM (SELECT kind, writer_sequence, convert_from(record, 'UTF8')::json -> 'attributes' AS x FROM audit.events WHERE decision_id = '`+delivery+`') e ORDER BY writer_sequence`)
}

// A stream's tasks are leased one at a time and in order, those of other streams and
// endpoints at the same time.
func TestOrderOfAStream(t *testing.T) {
	db := migrated(t)
	q, conn := newInstance(t, db.URL(database.Writer)), admin(t, db)
	for n := range 3 {
		accept(t, q, delivery(repository(1), n), allowed("jenkins", "kargo"))
	}
	accept(t, q, delivery(repository(2), 4), allowed("jenkins"))
	tasks, err := q.Claim(t.Context(), "jenkins", 10, time.Minute)
	if err != nil || len(tasks) != 2 || tasks[0].ID != 1 || tasks[0].Repository == tasks[1].Repository {
		t.Fatalf("%v, %v", tasks, err)
	}
	if other := claim(t, q, "kargo", time.Minute); other == nil || other.Delivery != tasks[0].Delivery {
		t.Errorf("%v", other)
	}
	if again := claim(t, q, "jenkins", time.Minute); again != nil {
		t.Errorf("leased twice: %v", again)
	}
	first := tasks[0]
	// A task that waits holds its stream up.
	if err := q.Retry(t.Context(), first, time.Now().Add(time.Hour), "status 500"); err != nil {
		t.Fatal(err)
	}
	if next := claim(t, q, "jenkins", time.Minute); next != nil {
		t.Errorf("overtaken: %v", next)
	}
	expire(t, conn)
	second := claim(t, q, "jenkins", time.Minute)
	if second == nil || second.ID != first.ID || second.Attempt != 2 || second.Fence <= first.Fence {
		t.Fatalf("%v", second)
	}
	if err := q.Retry(t.Context(), *second, time.Now(), "status 500"); err != nil {
		t.Fatal(err)
	}
	third := claim(t, q, "jenkins", time.Minute)
	if third == nil || third.Attempt != 3 {
		t.Fatalf("%v", third)
	}
	if err := q.Done(t.Context(), *third, webhook.TaskResult{Status: 204, Duration: time.Second}); err != nil {
		t.Fatal(err)
	}
	if next := claim(t, q, "jenkins", time.Minute); next == nil || next.ID <= third.ID {
		t.Errorf("%v", next)
	} else if err := q.Dead(t.Context(), *next, "gone\x00"); err != nil {
		t.Error(err)
	}
	if got := kindsOf(t, conn, first.Delivery); !slices.Equal(got, []string{"webhook_received", "webhook_failed false 1", "webhook_delivered 3 204"}) {
		t.Errorf("%q", got)
	}
	if got := pgtest.Texts(t, conn, `SELECT concat_ws(' ', delivered, failed, dead) FROM audit.webhook_deliveries ORDER BY writer_sequence LIMIT 2`); !slices.Equal(got, []string{"{jenkins} {jenkins} {}", "{} {jenkins} {jenkins}"}) {
		t.Errorf("%q", got)
	}
}

// An acknowledgement that comes after the lease was lost changes nothing.
func TestLateAcknowledgement(t *testing.T) {
	db := migrated(t)
	q, conn := newInstance(t, db.URL(database.Writer)), admin(t, db)
	accept(t, q, delivery(repoUUID, 1), allowed("jenkins"))
	late := claim(t, q, "jenkins", time.Minute)
	if err := q.Extend(t.Context(), *late, time.Hour); err != nil {
		t.Fatal(err)
	}
	if left := pgtest.Value[float64](t, conn, `SELECT extract(epoch FROM lease_until - now())::float8 FROM webhook.streams`); left < 3000 {
		t.Errorf("%v seconds are left", left)
	}
	expire(t, conn)
	if err := q.Extend(t.Context(), *late, time.Millisecond); err != nil { // it has expired, and is still ours
		t.Fatal(err)
	}
	expire(t, conn)
	present := claim(t, q, "jenkins", time.Minute)
	if present == nil || present.ID != late.ID || present.Attempt != 2 {
		t.Fatalf("%v", present)
	}
	for name, end := range endings(q) {
		if err := end(t, *late); !errors.Is(err, webhook.ErrLeaseLost) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := q.Done(t.Context(), *present, webhook.TaskResult{Status: 200}); err != nil {
		t.Fatal(err)
	}
	for name, end := range endings(q) { // and after the end
		if err := end(t, *present); !errors.Is(err, webhook.ErrLeaseLost) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := kindsOf(t, conn, present.Delivery); !slices.Equal(got, []string{"webhook_received", "webhook_delivered 2 200"}) {
		t.Errorf("%q", got)
	}
}

// endings are the calls that need a lease.
func endings(q *instance) map[string]func(testing.TB, webhook.Task) error {
	return map[string]func(testing.TB, webhook.Task) error{
		"extend":  func(t testing.TB, x webhook.Task) error { return q.Extend(t.Context(), x, time.Minute) },
		"done":    func(t testing.TB, x webhook.Task) error { return q.Done(t.Context(), x, webhook.TaskResult{}) },
		"retry":   func(t testing.TB, x webhook.Task) error { return q.Retry(t.Context(), x, time.Now(), "") },
		"release": func(t testing.TB, x webhook.Task) error { return q.Release(t.Context(), x) },
		"dead":    func(t testing.TB, x webhook.Task) error { return q.Dead(t.Context(), x, "") },
	}
}

// The lease is lost between its check and the transaction: the event is there, and the
// next one states that the task did not end with it.
func TestLeaseLostMeanwhile(t *testing.T) {
	db := migrated(t)
	q, conn := newInstance(t, db.URL(database.Writer)), admin(t, db)
	accept(t, q, delivery(repoUUID, 1), allowed("jenkins"))
	task := claim(t, q, "jenkins", time.Minute)
	// The database takes the lease in front of the audit writer's statement.
	pgtest.Exec(t, conn, `CREATE OR REPLACE FUNCTION webhook.end_task(task bigint, fence bigint, state text, error text, pause interval) RETURNS SETOF bigint LANGUAGE sql AS 'SELECT 1::bigint WHERE false'`)
	if err := q.Done(t.Context(), *task, webhook.TaskResult{}); !errors.Is(err, webhook.ErrLeaseLost) {
		t.Error(err)
	}
	pgtest.Eventually(t, "the event", func() bool {
		return slices.Equal(kindsOf(t, conn, task.Delivery), []string{"webhook_received", "webhook_delivered 1", "webhook_unqueued lease_lost"})
	})
}

// TestFenceIsNeeded: without the comparison of the fencing number a late acknowledgement
// ends the task of another.
func TestFenceIsNeeded(t *testing.T) {
	db := migrated(t)
	q, conn := newInstance(t, db.URL(database.Writer)), admin(t, db)
	source := pgtest.Value[string](t, conn, `SELECT pg_get_functiondef('webhook.extend'::regproc)`)
	late := func(n int) error {
		endpoint := fmt.Sprint("jenkins-", n)
		accept(t, q, delivery(repository(n), n), allowed(endpoint))
		late := claim(t, q, endpoint, time.Minute)
		expire(t, conn)
		if present := claim(t, q, endpoint, time.Minute); present == nil || present.ID != late.ID {
			t.Fatalf("%v", present)
		}
		return q.Extend(t.Context(), *late, time.Hour)
	}
	if err := late(1); !errors.Is(err, webhook.ErrLeaseLost) {
		t.Fatal(err)
	}
	pgtest.Exec(t, conn, replaced(t, replaced(t, source, "AND t.fence = extend.fence", ""), "AND s.fence = extend.fence", ""))
	if err := late(2); err != nil {
		t.Errorf("without the fence a late call is still refused: %v", err)
	}
}

// A delivery in a stream that became visible behind a later one is not sent beside it.
func TestLaterVisibleTask(t *testing.T) {
	db := migrated(t)
	q := newInstance(t, db.URL(database.Writer))
	accept(t, q, delivery(repoUUID, 1), allowed("jenkins"))
	if err := q.Done(t.Context(), *claim(t, q, "jenkins", time.Minute), webhook.TaskResult{}); err != nil {
		t.Fatal(err)
	}
	open := pgtest.Connect(t, db.URL(""))
	pgtest.Exec(t, open, `BEGIN`)
	pgtest.Exec(t, open, `SELECT webhook.add_task(id, repository, 'forward', 'jenkins') FROM webhook.deliveries`) // a smaller number, and not committed yet
	accept(t, q, delivery(repoUUID, 2), allowed("jenkins"))
	later := claim(t, q, "jenkins", time.Minute)
	pgtest.Exec(t, open, `COMMIT`)
	if beside := claim(t, q, "jenkins", time.Minute); beside != nil {
		t.Errorf("two tasks of one stream are leased: %v", beside)
	}
	if err := q.Done(t.Context(), *later, webhook.TaskResult{}); err != nil {
		t.Fatal(err)
	}
	if earlier := claim(t, q, "jenkins", time.Minute); earlier == nil || earlier.ID >= later.ID {
		t.Errorf("%v", earlier)
	}
}

// A body that was deleted is claimed as nil, and a claim takes as many streams as it may.
func TestClaimBounds(t *testing.T) {
	db := migrated(t)
	q, conn := newInstance(t, db.URL(database.Writer)), admin(t, db)
	for n := range 5 {
		accept(t, q, delivery(repository(n), n), allowed("jenkins"))
	}
	pgtest.Exec(t, conn, `UPDATE webhook.deliveries SET body = NULL`)
	seen := 0
	for _, n := range []int{0, -1, 2, 100} {
		tasks, err := q.Claim(t.Context(), "jenkins", n, time.Minute)
		if err != nil || len(tasks) > max(n, 0) {
			t.Errorf("%d: %d tasks, %v", n, len(tasks), err)
		}
		for _, task := range tasks {
			if seen++; task.Body != nil {
				t.Errorf("a body of %d bytes", len(task.Body))
			}
		}
	}
	if seen != 5 {
		t.Errorf("%d tasks", seen)
	}
}

// TestOnlyFailuresAreRecorded: a released attempt has no event, and the first failure has one,
// whichever attempt it is.
func TestOnlyFailuresAreRecorded(t *testing.T) {
	db := migrated(t)
	q, conn := newInstance(t, db.URL(database.Writer)), admin(t, db)
	accept(t, q, delivery(repoUUID, 1), allowed("jenkins"))
	var task *webhook.Task
	for i, end := range []func() error{
		func() error { return q.Release(t.Context(), *task) },
		func() error { return q.Release(t.Context(), *task) },
		func() error { return q.Retry(t.Context(), *task, time.Now(), "status 500") },
		func() error { return q.Release(t.Context(), *task) },
		func() error { return q.Retry(t.Context(), *task, time.Now(), "status 502") },
		func() error { return q.Done(t.Context(), *task, webhook.TaskResult{Status: 204}) },
	} {
		if task = claim(t, q, "jenkins", time.Minute); task == nil || task.Attempt != i+1 {
			t.Fatalf("attempt %d: %+v", i+1, task)
		}
		if err := end(); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Release(t.Context(), *task); !errors.Is(err, webhook.ErrLeaseLost) {
		t.Error(err)
	}
	if got := kindsOf(t, conn, task.Delivery); !slices.Equal(got, []string{"webhook_received", "webhook_failed false 3", "webhook_delivered 6 204"}) {
		t.Errorf("%q", got)
	}
}
