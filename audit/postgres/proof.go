package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/postgres"
)

// A Proof says that an event is in the log: its leaf, the hashes on the way to
// the root (RFC 6962 section 2.1.1), and the signed checkpoint with this root.
// audit.CheckInclusion checks it.
type Proof struct {
	Index      int64
	Leaf       audit.Hash
	Hashes     []audit.Hash
	Checkpoint []byte // the signed note
}

// ErrNotSealed is returned, wrapped, for an event that no checkpoint covers.
var ErrNotSealed = errors.New("the event is not sealed yet")

// Prove proves that an event is under the latest checkpoint. It reads the leaves
// once, and no record.
func (r *Reader) Prove(ctx context.Context, writer string, sequence int64) (*Proof, error) {
	p, err := r.prove(ctx, writer, sequence)
	if err != nil {
		return nil, fmt.Errorf("prove that event %d of writer %s is in the log: %w", sequence, writer, postgres.Explain("read", &r.connect.Config, err))
	}
	return p, nil
}

func (r *Reader) prove(ctx context.Context, writer string, sequence int64) (*Proof, error) {
	var p Proof
	var leaf []byte
	var note string
	var size int64
	err := r.tx.QueryRow(ctx, `SELECT l.index, l.hash, c.size, c.note FROM audit.leaves l
		CROSS JOIN LATERAL (SELECT size, note FROM audit.checkpoints WHERE size > l.index ORDER BY size DESC LIMIT 1) c
		WHERE l.writer = $1 AND l.writer_sequence = $2`, writer, sequence).Scan(&p.Index, &leaf, &size, &note)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, ErrNotSealed
	}
	if err != nil {
		return nil, err
	}
	if len(leaf) != len(p.Leaf) {
		return nil, fmt.Errorf("%w: leaf %d has %d bytes", ErrDamaged, p.Index, len(leaf))
	}
	p.Leaf, p.Checkpoint = audit.Hash(leaf), []byte(note)
	p.Hashes, err = audit.ProveInclusion(size, p.Index, func(level int, index int64) (audit.Hash, error) {
		return r.subtree(ctx, index<<level, (index+1)<<level)
	})
	return &p, err
}

// subtree is the root over the leaves from one index to before another.
func (r *Reader) subtree(ctx context.Context, from, to int64) (audit.Hash, error) {
	rows, err := r.tx.Query(ctx, `SELECT hash FROM audit.leaves WHERE index >= $1 AND index < $2 ORDER BY index`, from, to)
	if err != nil {
		return audit.Hash{}, err
	}
	var tree audit.Tree
	var hash []byte
	if _, err := pgx.ForEachRow(rows, []any{&hash}, func() error {
		if len(hash) != len(audit.Hash{}) {
			return fmt.Errorf("%w: a leaf of %d bytes", ErrDamaged, len(hash))
		}
		tree.Append(audit.Hash(hash))
		return nil
	}); err != nil {
		return audit.Hash{}, err
	}
	if tree.Size() != to-from {
		return audit.Hash{}, fmt.Errorf("%w: of the leaves %d to %d there are %d", ErrDamaged, from, to-1, tree.Size())
	}
	return tree.Root(), nil
}
