package sealer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	auditpg "github.com/sallyport/sallyport/audit/postgres"
)

// findReplacement searches for an event that names the own key in place of the one
// that signed the latest checkpoint: a page of events at each step, around and around.
// It is true where the keys that signed have to be read first.
func (s *Sealer) findReplacement(ctx context.Context, tx pgx.Tx, last latest) (again bool, err error) {
	k := &s.keys
	if k.own != "" && last.refused == nil && last.signedBy != "" && k.mayFollow(last.signedBy) {
		return false, nil
	}
	if k.waiting == nil {
		if _, err := s.readRegistrations(ctx, tx); err != nil {
			return false, err
		}
		again = k.waiting != nil // other keys count now
	}
	if k.lacks(last.unknown) {
		k.search(last.unknown)
		again = true
	}
	return again, nil
}

// latestAndKeys returns the newest checkpoint, with the keys that matter for it. It is
// false where that takes another step.
func (s *Sealer) latestAndKeys(ctx context.Context, tx pgx.Tx) (last latest, complete bool, err error) {
	var leaves int64
	if err := tx.QueryRow(ctx, `SELECT coalesce(max(index), -1) + 1 FROM audit.leaves`).Scan(&leaves); err != nil {
		return last, false, fmt.Errorf("count the leaves: %w", err)
	}
	if complete, err = s.readKeys(ctx, tx, leaves); err != nil || !complete {
		return last, false, err
	}
	if err := s.checkWaiting(ctx, tx); err != nil {
		return last, false, err
	}
	if last, err = s.readLatest(ctx, tx, leaves); err != nil {
		return last, false, err
	}
	again, err := s.findReplacement(ctx, tx, last)
	return last, !again, err
}

// readLatest returns the newest checkpoint that is intact and signed by a key of
// ours or of the hand-over that ours is part of. A login that may seal, and has no
// key, can add checkpoints above it: they are findings and end nothing.
func (s *Sealer) readLatest(ctx context.Context, tx pgx.Tx, leaves int64) (latest, error) {
	l := latest{leaves: leaves}
	keys := s.keys.keys()
	skipped, found, before, limit := 0, false, int64(math.MaxInt64), 1
	for more := true; more && !found; limit = 100 {
		// The rest of an answer is read whether it is wanted or not: mostly one row is.
		rows, err := tx.Query(ctx, `SELECT number, size, root, frontier, note FROM audit.checkpoints WHERE number < $1 ORDER BY number DESC LIMIT $2`, before, limit)
		if err != nil {
			return latest{}, fmt.Errorf("read the latest checkpoint: %w", err)
		}
		read := 0
		var size int64
		var root, frontier []byte
		var note string
		_, err = pgx.ForEachRow(rows, []any{&before, &size, &root, &frontier, &note}, func() error {
			if read++; found {
				return nil
			}
			l.note, l.frontier = []byte(note), frontier
			err := l.check(size, root, keys)
			if found = err == nil; found {
				return nil
			}
			l.Checkpoint, l.signedBy = audit.Checkpoint{}, ""
			if l.refused == nil {
				l.refused = err
			}
			if errors.Is(err, ErrNoKey) && len(l.unknown) < maxWantedKeys {
				l.unknown = append(l.unknown, audit.SignerNames(l.note)...)
			}
			if skipped++; skipped <= 10 {
				l.findings = append(l.findings, fmt.Sprintf("checkpoint %d of size %d is not used: %v", before, size, err))
			}
			return nil
		})
		if err != nil {
			return latest{}, fmt.Errorf("read the latest checkpoint: %w", err)
		}
		more = read == limit && !s.keys.lacks(l.unknown)
	}
	if skipped > 10 {
		l.findings = append(l.findings, fmt.Sprintf("%d more checkpoints are not used", skipped-10))
	}
	if l.Size == 0 {
		l.note, l.frontier = nil, nil
	}
	return l, nil
}

// restore returns the tree of all leaves, which the next checkpoint extends: that
// of the latest checkpoint, and above it each leaf that the database has, if it is
// the leaf of a recorded event.
func (s *Sealer) restore(ctx context.Context, tx pgx.Tx, last latest) (*audit.Tree, error) {
	tree, err := audit.RestoreTree(last.Size, last.frontier)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", auditpg.ErrDamaged, err)
	}
	if last.leaves < last.Size {
		return nil, fmt.Errorf("%w: there are %d leaves, and the latest checkpoint covers %d", auditpg.ErrDamaged, last.leaves, last.Size)
	}
	for tree.Size() < last.leaves {
		before := tree.Size()
		if err := appendUnsigned(ctx, tx, tree); err != nil {
			return nil, err
		}
		if tree.Size() == before {
			return nil, fmt.Errorf("%w: leaf %d of %d is missing", auditpg.ErrDamaged, before, last.leaves)
		}
	}
	return tree, nil
}

const unsignedSQL = `SELECT l.index, l.hash, e.hash, l.writer, l.writer_sequence FROM (
		SELECT index, hash, writer, writer_sequence FROM audit.leaves WHERE index >= $1 ORDER BY index LIMIT 20000
	) l LEFT JOIN LATERAL (
		SELECT sha256('\x00'::bytea || audit.record(v)) AS hash FROM audit.events v WHERE v.writer = l.writer AND v.writer_sequence = l.writer_sequence ORDER BY v.time LIMIT 1
	) e ON true ORDER BY l.index`

// appendUnsigned appends the next leaves that no checkpoint which holds covers.
func appendUnsigned(ctx context.Context, tx pgx.Tx, tree *audit.Tree) error {
	rows, err := tx.Query(ctx, unsignedSQL, tree.Size())
	if err != nil {
		return fmt.Errorf("read leaves that are not signed: %w", err)
	}
	var index, sequence int64
	var leaf, event []byte
	var writer string
	_, err = pgx.ForEachRow(rows, []any{&index, &leaf, &event, &writer, &sequence}, func() error {
		switch {
		case index != tree.Size():
			return fmt.Errorf("%w: leaf %d is missing", auditpg.ErrDamaged, tree.Size())
		case len(leaf) != len(audit.Hash{}) || !bytes.Equal(leaf, event):
			return fmt.Errorf("%w: leaf %d is not that of event %d of writer %s", auditpg.ErrDamaged, index, sequence, writer)
		}
		tree.Append(audit.Hash(leaf))
		return nil
	})
	return err
}
