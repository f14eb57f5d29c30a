package reader

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	auditpg "github.com/sallyport/sallyport/audit/postgres"
)

// ErrTooShort is returned, wrapped, for a size that the log does not reach.
var ErrTooShort = errors.New("the log has fewer leaves")

// Consistency proves that the tree of the size to extends that of the size from,
// and computes both roots. Neither has to be the size of a checkpoint. It reads
// the leaves from the checkpoint before the smaller size on.
func (r *Reader) Consistency(ctx context.Context, from, to int64) (*audit.Consistency, error) {
	c, err := r.consistency(ctx, from, to)
	return c, r.explain(fmt.Sprintf("prove that the log of %d leaves extends that of %d", to, from), err)
}

func (r *Reader) consistency(ctx context.Context, from, to int64) (*audit.Consistency, error) {
	if from < 1 || from >= to {
		return nil, fmt.Errorf("a proof is from a smaller size above 0 to a larger one, and not from %d to %d", from, to)
	}
	var leaves, before int64
	var frontier []byte
	if err := r.tx.QueryRow(ctx, `SELECT coalesce(max(index), -1) + 1 FROM audit.leaves`).Scan(&leaves); err != nil {
		return nil, err
	}
	if leaves < to {
		return nil, fmt.Errorf("%w: %d, and %d were asked for", ErrTooShort, leaves, to)
	}
	err := r.tx.QueryRow(ctx, `SELECT size, frontier FROM audit.checkpoints WHERE size <= $1 ORDER BY size DESC, number LIMIT 1`, from).Scan(&before, &frontier)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return nil, err
	}
	tree, err := audit.RestoreTree(before, frontier)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", auditpg.ErrDamaged, err)
	}
	c := &audit.Consistency{From: audit.TreeHead{Size: from}, To: audit.TreeHead{Size: to}}
	if err := auditpg.AppendLeaves(ctx, r.tx, tree, before, from); err != nil {
		return nil, err
	}
	c.From.Root = tree.Root()
	if err := auditpg.AppendLeaves(ctx, r.tx, tree, from, to); err != nil {
		return nil, err
	}
	c.To.Root = tree.Root()
	c.Hashes, err = audit.ProveConsistency(to, from, func(level int, index int64) (audit.Hash, error) {
		return r.subtree(ctx, index<<level, (index+1)<<level, before, frontier)
	})
	if err == nil {
		err = c.Check() // the frontier that it depends on may be damaged
	}
	return c, err
}

const checkpointSizesSQL = `SELECT max(size) FROM audit.checkpoints WHERE time < date_trunc('hour', $1::timestamptz, 'UTC')
GROUP BY date_trunc(CASE WHEN time >= $2 THEN 'hour' ELSE 'day' END, time, 'UTC') ORDER BY 1`

// CheckpointSizes returns the sizes of the last checkpoint of each hour from one time
// on, and of each day before it (UTC, by the times of signing). The hour of before is
// not among them: it may not have its last one yet.
func (r *Reader) CheckpointSizes(ctx context.Context, before, hourlyFrom time.Time) ([]int64, error) {
	rows, err := r.tx.Query(ctx, checkpointSizesSQL, before, hourlyFrom)
	if err != nil {
		return nil, r.explain("read sizes of checkpoints", err)
	}
	sizes, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	return sizes, r.explain("read sizes of checkpoints", err)
}
