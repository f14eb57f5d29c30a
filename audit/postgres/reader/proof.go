package reader

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	auditpg "github.com/sallyport/sallyport/audit/postgres"
	"github.com/sallyport/sallyport/internal/database"
)

// A Proof shows that an event is in the log: its leaf, the hashes on the way to
// the root (RFC 6962 section 2.1.1), and the signed checkpoint with this root.
// audit.CheckInclusion checks it.
type Proof struct {
	Index      int64
	Leaf       audit.Hash
	Hashes     []audit.Hash
	Checkpoint []byte // the signed note
	// Skipped counts the checkpoints before it that cover the event as well, and that
	// no key of the log signed.
	Skipped int
}

// ErrNotSealed is returned, wrapped, for an event that no checkpoint covers.
var ErrNotSealed = errors.New("the event is not sealed yet")

// Which checkpoint a proof leads to.
type Which bool

const (
	// First is the first checkpoint that covers the event and that a key of the log
	// signed. Its proof costs the same in a log of any size.
	First Which = false
	// Latest is the log's latest checkpoint, which the present key has signed. Of the
	// leaves behind the event those are read that no checkpoint before it covers.
	Latest Which = true
)

const (
	coveringSQL       = `SELECT note FROM audit.checkpoints WHERE size > $1 ORDER BY size, number`
	latestCoveringSQL = `SELECT note FROM audit.checkpoints WHERE size > $1 ORDER BY size DESC, number DESC`
)

// Prove proves that an event is under a checkpoint. It reads no record, and no leaf
// from before the checkpoint before the event: of what lies there it takes the frontier.
// What it reads may be damaged; the proof then does not hold.
func (r *Reader) Prove(ctx context.Context, writer string, sequence int64, under Which) (*Proof, error) {
	p, err := r.prove(ctx, writer, sequence, under)
	if err != nil {
		return nil, fmt.Errorf("prove that event %d of writer %s is in the log: %w", sequence, writer, database.Explain("read", &r.connect.Config, err))
	}
	return p, nil
}

func (r *Reader) prove(ctx context.Context, writer string, sequence int64, under Which) (*Proof, error) {
	var p Proof
	var leaf, frontier []byte
	var before int64
	err := r.tx.QueryRow(ctx, `SELECT l.index, l.hash, coalesce(b.size, 0), coalesce(b.frontier, '')
		FROM audit.leaves l
		LEFT JOIN LATERAL (SELECT size, frontier FROM audit.checkpoints WHERE size <= l.index ORDER BY size DESC, number DESC LIMIT 1) b ON true
		WHERE l.writer = $1 AND l.writer_sequence = $2`, writer, sequence).Scan(&p.Index, &leaf, &before, &frontier)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, ErrNotSealed
	}
	if err != nil {
		return nil, err
	}
	if len(leaf) != len(p.Leaf) {
		return nil, fmt.Errorf("%w: leaf %d has %d bytes", auditpg.ErrDamaged, p.Index, len(leaf))
	}
	p.Leaf = audit.Hash(leaf)
	sql := coveringSQL
	if under == Latest {
		sql = latestCoveringSQL
	}
	if p.Checkpoint, p.Skipped, err = r.firstSigned(ctx, sql, p.Index); err != nil {
		return nil, err
	}
	if p.Checkpoint == nil {
		return nil, ErrNotSealed
	}
	c, err := audit.ReadCheckpoint(p.Checkpoint)
	if err != nil {
		return nil, fmt.Errorf("%w: the checkpoint that covers leaf %d: %v", auditpg.ErrDamaged, p.Index, err)
	}
	p.Hashes, err = audit.ProveInclusion(c.Size, p.Index, func(level int, index int64) (audit.Hash, error) {
		return r.subtree(ctx, index<<level, (index+1)<<level, before, frontier)
	})
	return &p, err
}

// subtree is the root over the leaves from one index to before another, a complete
// subtree. Those below before are known by the frontier of the tree of that size alone.
// A path to a leaf behind it has no other need: its siblings to the left are subtrees
// of that frontier, or begin with some of them.
func (r *Reader) subtree(ctx context.Context, from, to, before int64, frontier []byte) (audit.Hash, error) {
	tree := new(audit.Tree)
	if from < before {
		rest, err := audit.RestoreTree(before, frontier)
		if err != nil {
			return audit.Hash{}, fmt.Errorf("%w: %v", auditpg.ErrDamaged, err)
		}
		if tree, err = rest.Part(from, min(to, before)); err != nil {
			return audit.Hash{}, err
		}
	}
	if to > before {
		// A checkpoint inside of the subtree has all of it in its frontier but for the
		// leaves behind that checkpoint.
		inside, err := r.treeIn(ctx, max(from, before), to)
		if err != nil {
			return audit.Hash{}, err
		}
		if inside != nil {
			if tree, err = inside.Part(from, inside.Size()); err != nil {
				return audit.Hash{}, err
			}
			before = inside.Size()
		}
		if err := auditpg.AppendLeaves(ctx, r.tx, tree, max(from, before), to); err != nil {
			return audit.Hash{}, err
		}
	}
	return tree.Root(), nil
}

// treeIn is the tree of the last checkpoint whose size lies between two indexes, of
// the latest ones that agree with their root; nil where there is none.
func (r *Reader) treeIn(ctx context.Context, from, to int64) (found *audit.Tree, err error) {
	rows, err := r.tx.Query(ctx, `SELECT size, root, frontier FROM audit.checkpoints WHERE size > $1 AND size < $2 ORDER BY size DESC, number DESC LIMIT 8`, from, to)
	if err != nil {
		return nil, err
	}
	var size int64
	var root, frontier []byte
	_, err = pgx.ForEachRow(rows, []any{&size, &root, &frontier}, func() error {
		if found != nil {
			return nil
		}
		if tree, err := audit.RestoreTree(size, frontier); err == nil && len(root) == len(audit.Hash{}) && tree.Root() == audit.Hash(root) {
			found = tree
		}
		return nil
	})
	return found, err
}
