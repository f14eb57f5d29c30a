package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
)

// ErrDamaged is returned, wrapped, where sealed leaves or checkpoints are missing or
// contradict each other.
var ErrDamaged = errors.New("the sealed log is damaged; run `sallyport audit verify`")

// AppendLeaves appends the database's leaves from one index to before another.
func AppendLeaves(ctx context.Context, tx pgx.Tx, tree *audit.Tree, from, to int64) error {
	rows, err := tx.Query(ctx, `SELECT hash FROM audit.leaves WHERE index >= $1 AND index < $2 ORDER BY index`, from, to)
	if err != nil {
		return err
	}
	var hash []byte
	read := int64(0)
	if _, err := pgx.ForEachRow(rows, []any{&hash}, func() error {
		if len(hash) != len(audit.Hash{}) {
			return fmt.Errorf("%w: a leaf of %d bytes", ErrDamaged, len(hash))
		}
		tree.Append(audit.Hash(hash))
		read++
		return nil
	}); err != nil {
		return err
	}
	if read != to-from {
		return fmt.Errorf("%w: of the leaves %d to %d there are %d", ErrDamaged, from, to-1, read)
	}
	return nil
}
