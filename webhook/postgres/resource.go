package postgres

import "context"

// Latest returns the largest id of the open tasks of an endpoint or a resource; 0: there is
// none. Every task with a smaller id was accepted before Latest was called.
func (q *Queue) Latest(ctx context.Context, endpoint string) (id int64, err error) {
	err = q.pool.QueryRow(ctx, `SELECT coalesce(max(id), 0) FROM webhook.tasks WHERE endpoint = $1 AND state IN ('pending', 'leased')`, endpoint).Scan(&id)
	if err != nil {
		return 0, q.explain("read the latest webhook task", err)
	}
	return id, nil
}
