package postgres

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
	"github.com/sallyport/sallyport/webhook"
)

// oracle holds what senders were answered and what endpoints received, by stream.
type oracle struct {
	mu       sync.Mutex
	accepted map[string][]string
	arrived  map[string][]string // the first arrival of each body
	repeats  int
	ids      map[string]string // of deliveries, by body
	faults   []string
}

func (o *oracle) accept(stream, body string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.accepted[stream] = append(o.accepted[stream], body)
}

func (o *oracle) arrive(task webhook.Task) {
	o.mu.Lock()
	defer o.mu.Unlock()
	body := string(task.Body)
	if id := o.ids[body]; id != "" && id != task.Delivery {
		o.faults = append(o.faults, fmt.Sprintf("%s arrives as %s and %s", body, id, task.Delivery))
	}
	o.ids[body] = task.Delivery
	if slices.Contains(o.arrived[task.Repository], body) {
		o.repeats++
		return
	}
	o.arrived[task.Repository] = append(o.arrived[task.Repository], body)
}

// check returns what contradicts at-least-once and the order of a stream.
func (o *oracle) check() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	faults := o.faults
	for stream, accepted := range o.accepted {
		if !slices.Equal(accepted, o.arrived[stream]) {
			faults = append(faults, fmt.Sprintf("stream %s: accepted %q, arrived %q", stream, accepted, o.arrived[stream]))
		}
	}
	return faults
}

// stress accepts deliveries of several streams over two instances, and carries them out by
// several claimers, while connections are killed. It returns the oracle's findings.
func stress(t *testing.T, db *pgtest.DB, streams, each, kills int) *oracle {
	t.Helper()
	o := &oracle{accepted: map[string][]string{}, arrived: map[string][]string{}, ids: map[string]string{}}
	instances := []*instance{newInstance(t, db.URL(database.Writer)), newInstance(t, db.URL(database.Writer))}
	conn := admin(t, db)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var senders, claimers, killer sync.WaitGroup
	var killed atomic.Int32
	killer.Go(func() {
		for ; int(killed.Load()) < kills && ctx.Err() == nil; killed.Add(1) {
			pgtest.Exec(t, conn, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'sallyport_writer' AND datname = current_database() ORDER BY random() LIMIT 1`)
			select {
			case <-ctx.Done():
			case <-time.After(rand.N(40 * time.Millisecond)):
			}
		}
	})
	for s := range streams {
		senders.Go(func() {
			for n := range each {
				d := delivery(repository(s), n)
				pgtest.Eventually(t, "acceptance", func() bool { // a sender that resends what was not answered 200
					_, err := instances[rand.N(2)].Accept(ctx, d, allowed("jenkins"))
					return err == nil
				})
				o.accept(repository(s), string(d.Body))
			}
		})
	}
	for n := range 6 {
		q := instances[n%2]
		claimers.Go(func() { carryOut(ctx, q, o) })
	}
	senders.Wait()
	killer.Wait()
	pgtest.Eventually(t, "every task to end", func() bool {
		return pgtest.Value[int](t, conn, `SELECT count(*) FROM webhook.tasks WHERE state <> 'done'`) == 0
	})
	cancel()
	claimers.Wait()
	return o
}

// carryOut is a claimer: it claims, sends, and sometimes fails, stalls or forgets.
func carryOut(ctx context.Context, q *instance, o *oracle) {
	for ctx.Err() == nil {
		tasks, err := q.Claim(ctx, "jenkins", 1+rand.N(3), 400*time.Millisecond)
		if err != nil || len(tasks) == 0 {
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Millisecond):
			}
			continue
		}
		for _, task := range tasks {
			o.arrive(task)
			switch rand.N(12) {
			case 0:
				_ = q.Retry(ctx, task, time.Now().Add(rand.N(20*time.Millisecond)), "status 500")
			case 1: // its process ends: the lease expires
			default:
				_ = q.Done(ctx, task, webhook.TaskResult{Status: 200}) // an unknown outcome: the lease expires, or it is done
			}
		}
	}
}

// Every accepted delivery arrives at least once, under one id, and in the order of its
// stream, whatever connections are killed.
func TestStress(t *testing.T) {
	db := migrated(t)
	o := stress(t, db, 5, 25, 60)
	for _, fault := range o.check() {
		t.Error(fault)
	}
	t.Logf("%d repeats", o.repeats)
	conn := admin(t, db)
	// Each delivery has its event, each accepted event its delivery, unless the log states
	// another cause.
	for _, wrong := range contradictions(t, conn) {
		t.Error(wrong)
	}
}

func contradictions(t testing.TB, conn *pgx.Conn) []string {
	t.Helper()
	return pgtest.Texts(t, conn, `SELECT concat_ws(' ', coalesce(v.decision_id, d.id), v.unqueued, d.id IS NOT NULL) FROM audit.webhook_deliveries v FULL JOIN webhook.deliveries d ON d.id = v.decision_id
		WHERE v.decision_id IS NULL OR d.id IS NULL AND v.unqueued IS NULL OR d.id IS NOT NULL AND v.unqueued IN ('repeated', 'refused')`)
}

// TestStreamOrderIsNeeded: the oracle notices tasks that are claimed out of order.
func TestStreamOrderIsNeeded(t *testing.T) {
	db := migrated(t)
	source := pgtest.Value[string](t, admin(t, db), `SELECT pg_get_functiondef('webhook.claim'::regproc)`)
	pgtest.Exec(t, admin(t, db), replaced(t, source, "AND t.stream = name ORDER BY t.stream, t.id LIMIT 1", "AND t.stream = name ORDER BY t.stream, t.id DESC LIMIT 1"))
	faults := stress(t, db, 2, 30, 0).check()
	if !slices.ContainsFunc(faults, func(s string) bool { return strings.HasPrefix(s, "stream ") }) {
		t.Errorf("unnoticed: %q", faults)
	}
}

// TestLeaseIsNeeded: without the lease of a stream two claimers hold its task.
func TestLeaseIsNeeded(t *testing.T) {
	db := migrated(t)
	q, conn := newInstance(t, db.URL(database.Writer)), admin(t, db)
	accept(t, q, delivery(repoUUID, 1), allowed("jenkins"))
	claim(t, q, "jenkins", time.Minute)
	if second := claim(t, q, "jenkins", time.Minute); second != nil {
		t.Fatalf("leased twice: %v", second)
	}
	source := pgtest.Value[string](t, conn, `SELECT pg_get_functiondef('webhook.claim'::regproc)`)
	pgtest.Exec(t, conn, replaced(t, source, "WHERE (s.lease_until <= present OR s.lease_until > present + greatest(claim.lease, interval '10 minutes'))", ""))
	if second := claim(t, q, "jenkins", time.Minute); second == nil {
		t.Error("the lease is not what keeps the second claimer out")
	}
}
