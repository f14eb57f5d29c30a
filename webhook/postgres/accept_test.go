package postgres

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/webhook"
)

// A delivery, its tasks and its event are there when Accept returns, and the log has neither
// the body nor the signature.
func TestAccept(t *testing.T) {
	db := migrated(t)
	db.SetHostile(t, database.Writer)
	q, conn := newInstance(t, db.URL(database.Writer)), admin(t, db)
	d := delivery(repoUUID, 1)
	d.Body = append(d.Body, "secret-in-the-body"...)
	d.Event.Refs[0].Name = "a\x00b\xff\u202e"
	d.Event.Repository.FullName = "acme/\x00\xff"
	decision := allowed("jenkins", "kargo")
	decision.Rule, decision.Input = "push", []byte(`{"event":"repo:push"}`)
	decision.Routes = append(decision.Routes, webhook.Route{Action: webhook.RefreshPolicy}, webhook.Route{Action: webhook.RefreshNames})
	accept(t, q, d, decision)
	if got := pgtest.Value[string](t, conn, `SELECT concat_ws(' ', receiver, kind, event, repository, request_id = $1, hook_id, attempt, client, body = $2) FROM webhook.deliveries`, d.RequestID, d.Body); got != "cloud cloud repo:push "+repoUUID+" t "+d.HookUUID+" 1 104.192.136.7 t" {
		t.Error(got)
	}
	if got := pgtest.Texts(t, conn, `SELECT concat_ws(' ', action, endpoint, state, stream) FROM webhook.tasks ORDER BY id`); !slices.Equal(got, []string{"forward jenkins pending jenkins " + repoUUID, "forward kargo pending kargo " + repoUUID}) {
		t.Error(got)
	}
	if got := pgtest.Texts(t, conn, `SELECT concat_ws(' ', name, number) FROM (`+refreshesSQL+`) AS r(name, number)`); !slices.Equal(got, []string{"names 1", "policy 1"}) {
		t.Error(got)
	}
	record := pgtest.Value[string](t, conn, `SELECT convert_from(record, 'UTF8') FROM audit.events e JOIN webhook.deliveries d ON d.id = e.decision_id WHERE e.kind = 'webhook_received'`)
	for _, want := range []string{`"action":"webhook"`, `"verdict":"allow"`, `"reason":"webhook_configured"`, `"rule":"push"`, `"listener":"127.0.0.1:8443"`, `"client_address":"104.192.136.7"`,
		`"receiver":"cloud"`, `"refs":"branch a`, `tag v1 deleted cccc`, d.RequestID, `"input":{"event":"repo:push"}`, `"routes":"forward jenkins; forward kargo; refresh_policy; refresh_names"`} {
		if !strings.Contains(record, want) {
			t.Errorf("the record has no %s: %s", want, record)
		}
	}
	for _, secret := range []string{"secret-in-the-body", "sha256=0123"} {
		if strings.Contains(record, secret) {
			t.Errorf("the record has %s", secret)
		}
	}
	task := claim(t, q, "jenkins", time.Minute)
	if task == nil || string(task.Body) != string(d.Body) || task.Header.Get("X-Hub-Signature") != "sha256=0123" || task.Attempt != 1 || task.RequestID != d.RequestID || task.Receiver != "cloud" || task.Event != "repo:push" || task.Repository != repoUUID {
		t.Errorf("%+v", task)
	}
}

// A denied delivery has its event, and no row that could be sent.
func TestAcceptDenied(t *testing.T) {
	db := migrated(t)
	q, conn := newInstance(t, db.URL(database.Writer)), admin(t, db)
	d := delivery(repoUUID, 1)
	denied := webhook.Decision{Reason: policy.NoRuleMatched, Routes: []webhook.Route{{Action: webhook.Forward, Endpoint: "jenkins"}}}
	accept(t, q, d, denied)
	if n := pgtest.Value[int](t, conn, `SELECT count(*) FROM webhook.deliveries`); n != 0 {
		t.Errorf("%d deliveries", n)
	}
	if got := pgtest.Value[string](t, conn, `SELECT concat_ws(' ', verdict, reason, unqueued) FROM audit.webhook_deliveries`); got != "deny no_rule_matched" {
		t.Error(got)
	}
	if outcome, err := q.Accept(t.Context(), d, denied); outcome != webhook.Repeated || err != nil {
		t.Errorf("%v, %v", outcome, err)
	}
}

// A request is a repetition for 24 hours and a body for 5 minutes, for each receiver.
func TestRepetition(t *testing.T) {
	db := migrated(t)
	q, conn := newInstance(t, db.URL(database.Writer)), admin(t, db)
	first := delivery(repoUUID, 1)
	accept(t, q, first, allowed("jenkins"))
	another := func(change func(*webhook.Delivery)) *webhook.Delivery {
		d := delivery(repoUUID, 2)
		change(d)
		return d
	}
	sameBody := func(d *webhook.Delivery) { d.Body, d.Digest = first.Body, first.Digest }
	sameRequest := func(d *webhook.Delivery) { d.RequestID = first.RequestID }
	for _, c := range []struct {
		name string
		d    *webhook.Delivery
		want webhook.Outcome
	}{
		{"itself", first, webhook.Repeated},
		{"the body with another request", another(sameBody), webhook.Repeated},
		{"the body without a request", another(func(d *webhook.Delivery) { sameBody(d); d.RequestID = "" }), webhook.Repeated},
		{"the request with another body", another(sameRequest), webhook.Repeated},
		{"another receiver", another(func(d *webhook.Delivery) { sameBody(d); sameRequest(d); d.Receiver = "other" }), webhook.Accepted},
		{"another", another(func(*webhook.Delivery) {}), webhook.Accepted},
	} {
		if outcome, err := q.Accept(t.Context(), c.d, allowed("jenkins")); outcome != c.want || err != nil {
			t.Errorf("%s: %v, %v", c.name, outcome, err)
		}
	}
	if got := pgtest.Texts(t, conn, `SELECT split_part(key, ' ', 1) || ' ' || round(extract(epoch FROM until - now()) / 60) FROM webhook.seen WHERE delivery = (SELECT min(id::text)::uuid FROM webhook.deliveries) ORDER BY 1`); !slices.Equal(got, []string{"body 5", "request 1440"}) {
		t.Error(got)
	}
	pgtest.Exec(t, conn, `UPDATE webhook.seen SET until = now() - interval '1 second'`)
	accept(t, q, first, allowed("jenkins"))
	if n := pgtest.Value[int](t, conn, `SELECT count(*) FROM audit.events WHERE kind = 'webhook_received'`); n != 4 {
		t.Errorf("%d events", n)
	}
}

// Repetitions at the same moment, in two instances, end as one delivery.
func TestConcurrentRepetition(t *testing.T) {
	db := migrated(t)
	conn := admin(t, db)
	instances := []*instance{newInstance(t, db.URL(database.Writer)), newInstance(t, db.URL(database.Writer))}
	const rounds = 15
	for round := range rounds {
		d := delivery(repoUUID, round)
		var accepted, repeated atomic.Int32
		var wg sync.WaitGroup
		for n := range 12 {
			wg.Go(func() {
				switch outcome, err := instances[n%2].Accept(t.Context(), d, allowed("jenkins")); {
				case err != nil:
					t.Error(err)
				case outcome == webhook.Accepted:
					accepted.Add(1)
				default:
					repeated.Add(1)
				}
			})
		}
		wg.Wait()
		if accepted.Load() != 1 || repeated.Load() != 11 {
			t.Errorf("accepted %d times, repeated %d times", accepted.Load(), repeated.Load())
		}
	}
	if n := pgtest.Value[int](t, conn, `SELECT count(*) FROM webhook.deliveries`); n != rounds {
		t.Errorf("%d deliveries", n)
	}
	// Those that lost the race have an event each, which names the cause.
	pgtest.Eventually(t, "the events of those that lost", func() bool {
		return pgtest.Value[int](t, conn, `SELECT count(*) FROM audit.webhook_deliveries v WHERE (unqueued IS NULL) <> EXISTS (SELECT FROM webhook.deliveries d WHERE d.id = v.decision_id)
			OR unqueued <> 'repeated'`) == 0
	})
}

// Without the database nothing is accepted, and the answer does not wait for it.
func TestAcceptDuringAnOutage(t *testing.T) {
	server := pgtest.Start(t, pgtest.Options{NoSync: true})
	db := server.NewFrom(t, "sallyport", migrate)
	q := newInstance(t, db.URL(database.Writer))
	d := delivery(repoUUID, 1)
	accept(t, q, d, allowed("jenkins"))
	server.Kill(t)
	pgtest.Eventually(t, "refusal", func() bool {
		outcome, err := q.Accept(t.Context(), delivery(repoUUID, 2), allowed("jenkins"))
		return err != nil && outcome != webhook.Accepted && outcome != webhook.Repeated
	})
	server.Restart(t)
	pgtest.Eventually(t, "recovery", func() bool {
		outcome, err := q.Accept(t.Context(), delivery(repoUUID, 3), allowed("jenkins"))
		return err == nil && outcome == webhook.Accepted
	})
}

// A refused change leaves the event, and the event of its absence.
func TestAcceptRefused(t *testing.T) {
	db := migrated(t)
	q, conn := newInstance(t, db.URL(database.Writer)), admin(t, db)
	decision := allowed()
	decision.Routes = []webhook.Route{{Action: webhook.Forward}} // without an endpoint
	if outcome, err := q.Accept(t.Context(), delivery(repoUUID, 1), decision); outcome == webhook.Accepted || !errors.Is(err, audit.ErrRefused) {
		t.Fatalf("%v, %v", outcome, err)
	}
	pgtest.Eventually(t, "the event of its absence", func() bool {
		return pgtest.Value[int](t, conn, `SELECT count(*) FROM audit.webhook_deliveries WHERE unqueued = 'refused'`) == 1
	})
	accept(t, q, delivery(repoUUID, 1), allowed("jenkins")) // it does not repeat another
}

// The auditor reads what the log has of a delivery, and nothing of the queue.
func TestAuditorReadsNoBody(t *testing.T) {
	db := migrated(t)
	q := newInstance(t, db.URL(database.Writer))
	accept(t, q, delivery(repoUUID, 1), allowed("jenkins"))
	for _, login := range []string{database.Auditor, database.Sealer} {
		conn := pgtest.Connect(t, db.URL(login))
		for _, table := range []string{"deliveries", "tasks", "streams", "seen", "policy_refreshes", "names_refreshes"} {
			if _, err := conn.Exec(t.Context(), `SELECT FROM webhook.`+table); pgtest.SQLState(err) != "42501" {
				t.Errorf("%s reads %s: %v", login, table, err)
			}
		}
		if login == database.Auditor {
			if n := pgtest.Value[int](t, conn, `SELECT count(*) FROM audit.webhook_deliveries WHERE event = 'repo:push' AND refs LIKE 'branch main updated aaaa..bbbb; tag%'`); n != 1 {
				t.Errorf("%d deliveries", n)
			}
		}
	}
}
