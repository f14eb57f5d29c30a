package postgres

import (
	"context"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
	"github.com/sallyport/sallyport/internal/uuid"
	"github.com/sallyport/sallyport/webhook"
)

func TestListShowAndReplay(t *testing.T) {
	db := migrated(t)
	q, conn := newInstance(t, db.URL(database.Writer)), admin(t, db)
	for n := range 3 {
		accept(t, q, delivery(repository(n), n), allowed("jenkins"))
	}
	dead := claim(t, q, "jenkins", time.Minute)
	if err := q.Dead(t.Context(), *dead, "status 410"); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		filter webhook.DeliveryFilter
		want   int
	}{
		"all": {webhook.DeliveryFilter{}, 3}, "one": {webhook.DeliveryFilter{Limit: 1}, 1}, "receiver": {webhook.DeliveryFilter{Receiver: "other"}, 0}, "repository": {webhook.DeliveryFilter{Repository: repository(1)}, 1},
		"endpoint": {webhook.DeliveryFilter{Endpoint: "jenkins"}, 3}, "state": {webhook.DeliveryFilter{State: webhook.TaskDead}, 1}, "state of another endpoint": {webhook.DeliveryFilter{Endpoint: "kargo", State: webhook.TaskDead}, 0},
		"since": {webhook.DeliveryFilter{Since: time.Now().Add(time.Hour)}, 0}, "until": {webhook.DeliveryFilter{Until: time.Now().Add(time.Hour)}, 3},
	} {
		list, err := q.List(t.Context(), c.filter)
		if err != nil || len(list) != c.want {
			t.Errorf("%s: %d deliveries, %v", name, len(list), err)
		}
	}
	letters, err := q.DeadLetters(t.Context(), "jenkins", 10)
	if err != nil || len(letters) != 1 || letters[0].ID != dead.Delivery || letters[0].Header != nil || len(letters[0].Tasks) != 1 ||
		letters[0].Tasks[0].State != webhook.TaskDead || letters[0].Tasks[0].LastError != "status 410" || letters[0].Tasks[0].Finished == nil {
		t.Fatalf("%+v, %v", letters, err)
	}
	shown, err := q.Show(t.Context(), "{"+dead.Delivery+"}")
	if err != nil || shown.Header.Get("X-Event-Key") != "repo:push" || shown.BodyBytes == 0 || shown.Client.String() != "104.192.136.7" || len(shown.Digest) != 64 {
		t.Errorf("%+v, %v", shown, err)
	}
	ages, err := q.Ages(t.Context())
	if err != nil || len(ages) != 1 || ages[0].Open != 2 || ages[0].Dead != 1 || time.Since(ages[0].Oldest) > time.Hour {
		t.Errorf("%+v, %v", ages, err)
	}
	if err := q.Replay(t.Context(), dead.Delivery, "jenkins", webhook.Replayer{Name: "root (0)", Reason: "Jenkins was down"}); err != nil {
		t.Fatal(err)
	}
	again, err := q.Claim(t.Context(), "jenkins", 10, time.Minute)
	if i := slices.IndexFunc(again, func(x webhook.Task) bool { return x.Delivery == dead.Delivery }); err != nil || i < 0 || again[i].Attempt != 1 || again[i].Body == nil {
		t.Errorf("%v, %v", again, err)
	}
	if got := pgtest.Value[string](t, conn, `SELECT concat_ws(' ', action, message, attributes ->> 'operator', attributes ->> 'endpoint') FROM audit.operations WHERE kind = 'admin'`); got != "webhook_replayed Jenkins was down root (0) jenkins" {
		t.Error(got)
	}
	for _, id := range []string{"x", "", uuid.NewV4()} {
		if _, err := q.Show(t.Context(), id); err == nil {
			t.Errorf("%q is shown", id)
		}
		if err := q.Replay(t.Context(), id, "jenkins", webhook.Replayer{}); err == nil {
			t.Errorf("%q is replayed", id)
		}
	}
	if body, err := q.Body(t.Context(), dead.Delivery); err != nil || string(body) != string(dead.Body) {
		t.Errorf("%q, %v", body, err)
	}
	pgtest.Exec(t, conn, `UPDATE webhook.deliveries SET body = NULL`)
	if err := q.Replay(t.Context(), dead.Delivery, "jenkins", webhook.Replayer{}); !errors.Is(err, webhook.ErrBodyDeleted) {
		t.Error(err)
	}
	if _, err := q.Body(t.Context(), dead.Delivery); !errors.Is(err, webhook.ErrBodyDeleted) {
		t.Error(err)
	}
	if _, err := q.Body(t.Context(), uuid.NewV4()); !errors.Is(err, webhook.ErrDeliveryNotFound) {
		t.Error(err)
	}
}

// Bodies, deliveries and keys go when their time has come, and nothing that is still to be
// sent.
func TestForget(t *testing.T) {
	db := migrated(t)
	q, conn := newInstance(t, db.URL(database.Writer)), admin(t, db)
	for n := range 4 {
		d := delivery(repository(n), n)
		d.Received = time.Now().Add(-[]time.Duration{time.Hour, 8 * 24 * time.Hour, 40 * 24 * time.Hour, 40 * 24 * time.Hour}[n])
		accept(t, q, d, allowed("jenkins"))
		if task := claim(t, q, "jenkins", time.Minute); n < 3 {
			if err := q.Done(t.Context(), *task, webhook.TaskResult{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	pgtest.Exec(t, conn, `UPDATE webhook.seen SET until = now() - interval '1 second' WHERE key LIKE 'body %'`)
	for round := range 2 {
		f, err := q.Forget(t.Context(), 7*24*time.Hour)
		if want := []Forgotten{{2, 1, 4}, {}}[round]; err != nil || f != want {
			t.Errorf("%+v, %v", f, err)
		}
	}
	if got := pgtest.Texts(t, conn, `SELECT concat_ws(' ', right(repository, 1), body IS NOT NULL) FROM webhook.deliveries ORDER BY 1`); !slices.Equal(got, []string{"0 t", "1 f", "3 t"}) {
		t.Error(got)
	}
	if n := pgtest.Value[int](t, conn, `SELECT count(*) FROM audit.webhook_deliveries`); n != 4 {
		t.Errorf("the log has %d deliveries", n)
	}
}

// A new task is noticed at once by its notification, and by the poll without one.
func TestWake(t *testing.T) {
	for name, poll := range map[string]time.Duration{"notification": time.Hour, "poll": 10 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			db := migrated(t)
			q, conn := newInstance(t, db.URL(database.Writer)), admin(t, db)
			q.poll = poll
			ctx, cancel := context.WithCancel(t.Context())
			names := q.Wake(ctx)
			pgtest.Eventually(t, "LISTEN", func() bool {
				return pgtest.Value[int](t, conn, `SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sallyport webhook wake' AND datname = current_database() AND state = 'idle'`) == 1
			})
			pgtest.Exec(t, conn, `SELECT pg_notify('sallyport_webhook', '')`) // names nothing
			if name == "poll" {
				q.announcer.close()
			}
			accept(t, q, delivery(repoUUID, 1), allowed("jenkins"))
			if got := <-names; got != "jenkins" {
				t.Errorf("%q", got)
			}
			// The session ends, and another one takes its place.
			pgtest.Exec(t, conn, `SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'sallyport webhook wake' AND datname = current_database()`)
			pgtest.Eventually(t, "a name from the next session", func() bool {
				select {
				case got := <-names:
					return got == "jenkins"
				default:
					return false
				}
			})
			if got, err := q.Endpoints(t.Context()); err != nil || !slices.Equal(got, []string{"jenkins"}) {
				t.Errorf("%v, %v", got, err)
			}
			cancel()
			for range names { // until it is closed
			}
		})
	}
}

// Another schema is named.
func TestOldSchema(t *testing.T) {
	db := pgtest.NewFrom(t, "empty", func(context.Context, string) error { return nil })
	if _, err := Open(t.Context(), Config{URL: db.URL("")}); err == nil {
		t.Error("a database without the schema is accepted")
	}
}

// A delivery is traced by its body: decision, event, and the result of each task. A delivery
// that is only recorded, because it was denied, has its decision.
func TestTrace(t *testing.T) {
	db := migrated(t)
	q := newInstance(t, db.URL(database.Writer))
	d := delivery(repoUUID, 1)
	decision := allowed("jenkins", "kargo")
	decision.Rule, decision.Routes[0].Rule = "to-jenkins", "to-jenkins"
	accept(t, q, d, decision)
	digest := hex.EncodeToString(d.Digest[:])
	task := claim(t, q, "jenkins", time.Minute)
	if err := q.Done(t.Context(), *task, webhook.TaskResult{Status: 202, Duration: 15 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	got, err := q.Trace(t.Context(), "cloud", digest)
	if err != nil || got.ID != task.Delivery || got.Verdict != "allow" || got.Rule != "to-jenkins" || got.Reason != string(webhook.Configured) || got.WriterSequence == 0 || got.Writer == "" ||
		got.Routes != "forward jenkins; forward kargo" || len(got.Tasks) != 2 || got.Tasks[0].Status != 202 || got.Tasks[0].Duration != 15*time.Millisecond || got.Tasks[1].State != webhook.TaskPending || got.Unqueued != "" {
		t.Errorf("%+v, %v", got, err)
	}
	denied := delivery(repoUUID, 2)
	accept(t, q, denied, webhook.Decision{Reason: "policy_denied"})
	if got, err := q.Trace(t.Context(), "cloud", hex.EncodeToString(denied.Digest[:])); err != nil || got.Verdict != "deny" || len(got.Tasks) != 0 || got.Routes != "" {
		t.Errorf("%+v, %v", got, err)
	}
	for _, c := range [][2]string{{"other", digest}, {"cloud", digest[:62] + "00"}} {
		if _, err := q.Trace(t.Context(), c[0], c[1]); !errors.Is(err, webhook.ErrDeliveryNotFound) {
			t.Errorf("%q: %v", c, err)
		}
	}
	for _, invalid := range []string{"", "00", strings.Repeat("x", 64)} {
		if _, err := q.Trace(t.Context(), "cloud", invalid); err == nil || errors.Is(err, webhook.ErrDeliveryNotFound) {
			t.Errorf("%q: %v", invalid, err)
		}
	}
}
