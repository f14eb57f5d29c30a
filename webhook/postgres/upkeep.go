package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// minRowAge is how long deliveries are listed after their body was deleted.
	minRowAge = 30 * 24 * time.Hour
	// forgetBatch is how many rows one transaction deletes.
	forgetBatch = 500
)

// forgetBefore is the time before which a delivery is old by this host's clock ($1) and by that
// of the database: one clock that jumps deletes nothing.
const forgetBefore = `least($1::timestamptz, clock_timestamp()) - $3::interval`

// Forgotten is what Forget deleted.
type Forgotten struct{ Bodies, Deliveries, Keys int64 }

// Forget deletes bodies that are older than the given age, deliveries that are older than
// that and than 30 days, and keys of repetitions that have expired. A delivery with an open
// task stays complete: the task ends first, as done or as a dead letter. Several instances
// may call it at a time.
func (q *Queue) Forget(ctx context.Context, bodyMaxAge time.Duration) (Forgotten, error) {
	var f Forgotten
	for _, step := range []struct {
		count *int64
		sql   string
		args  []any
	}{
		{&f.Bodies, `UPDATE webhook.deliveries SET body = NULL WHERE id IN (SELECT d.id FROM webhook.deliveries d
			WHERE d.body IS NOT NULL AND d.received_at < ` + forgetBefore + ` AND NOT EXISTS (SELECT FROM webhook.tasks t WHERE t.delivery_id = d.id AND t.state IN ('pending', 'leased'))
			ORDER BY d.received_at LIMIT $2 FOR UPDATE SKIP LOCKED)`, []any{time.Now(), forgetBatch, bodyMaxAge}},
		{&f.Deliveries, `DELETE FROM webhook.deliveries WHERE id IN (SELECT d.id FROM webhook.deliveries d
			WHERE d.received_at < ` + forgetBefore + ` AND NOT EXISTS (SELECT FROM webhook.tasks t WHERE t.delivery_id = d.id AND t.state IN ('pending', 'leased'))
			ORDER BY d.received_at LIMIT $2 FOR UPDATE SKIP LOCKED)`, []any{time.Now(), forgetBatch, max(bodyMaxAge, minRowAge)}},
		{&f.Keys, `DELETE FROM webhook.seen WHERE (receiver, key) IN (SELECT s.receiver, s.key FROM webhook.seen s WHERE s.until < clock_timestamp() LIMIT $1 FOR UPDATE SKIP LOCKED)`, []any{forgetBatch}},
	} {
		for {
			var n int64
			err := q.transact(ctx, "delete old webhook deliveries", func(tx pgx.Tx) error {
				tag, err := tx.Exec(ctx, step.sql, step.args...)
				n = tag.RowsAffected()
				return err
			})
			if err != nil {
				return f, err
			}
			if *step.count += n; n < forgetBatch {
				break
			}
		}
	}
	return f, nil
}

// Age is the state of one endpoint's tasks.
type Age struct {
	Endpoint   string
	Open, Dead int64
	// Oldest is when the oldest open task was accepted; zero: none is open.
	Oldest time.Time
}

// Ages returns the state of each endpoint that has open tasks or dead letters, in the order
// of their names. It reads an index entry for each such task.
func (q *Queue) Ages(ctx context.Context) ([]Age, error) {
	rows, err := q.pool.Query(ctx, `SELECT endpoint, count(*) FILTER (WHERE state <> 'dead'), count(*) FILTER (WHERE state = 'dead'), min(created_at) FILTER (WHERE state <> 'dead')
		FROM webhook.tasks WHERE state IN ('pending', 'leased') OR state = 'dead' GROUP BY endpoint ORDER BY endpoint`)
	if err != nil {
		return nil, q.explain("read the ages of webhook tasks", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Age, error) {
		var (
			a      Age
			oldest *time.Time
		)
		err := row.Scan(&a.Endpoint, &a.Open, &a.Dead, &oldest)
		if oldest != nil {
			a.Oldest = *oldest
		}
		return a, err
	})
	if err != nil {
		return nil, q.explain("read the ages of webhook tasks", err)
	}
	return list, nil
}
