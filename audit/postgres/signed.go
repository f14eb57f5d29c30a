package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
)

// Trust names keys from outside: where one of them, or a key that they handed over
// to, signed a checkpoint, CheckpointOf, CheckpointSince and Prove take that.
// Without it they take those of the log's own chain.
func (r *Reader) Trust(keys ...audit.Key) { r.given, r.signers = keys, nil }

const registrationsSQL = `SELECT e.record FROM audit.events e
JOIN audit.leaves l ON l.writer = e.writer AND l.writer_sequence = e.writer_sequence
WHERE e.kind = 'signing_key' ORDER BY l.index`

// signingKeys are the keys whose checkpoints count, as audit.SigningKeys orders them.
func (r *Reader) signingKeys(ctx context.Context) ([][]audit.Key, error) {
	if r.signers != nil {
		return r.signers, nil
	}
	rows, err := r.tx.Query(ctx, registrationsSQL)
	if err != nil {
		return nil, fmt.Errorf("read the log's keys: %w", err)
	}
	var named []audit.Registration
	var record []byte
	if _, err := pgx.ForEachRow(rows, []any{&record}, func() error {
		if one, ok := audit.RegistrationOf(record); ok {
			named = append(named, one)
		}
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read the log's keys: %w", err)
	}
	r.signers = audit.SigningKeys(r.given, named)
	return r.signers, nil
}

// firstSigned returns the first note of a query that a key of the first group signed
// from which there is one, and how many it stepped over. Where no key signed any, it
// is the first note; a verifier detects that. The query takes one argument, and
// gives notes in their order. A login that may seal, and has no key, can add
// checkpoints that nobody has signed.
func (r *Reader) firstSigned(ctx context.Context, sql string, argument any) (note []byte, skipped int, err error) {
	groups, err := r.signingKeys(ctx)
	if err != nil {
		return nil, 0, err
	}
	best := len(groups) + 1
	for seen, limit := 0, 4; ; limit *= 4 {
		rows, err := r.tx.Query(ctx, sql+" LIMIT $2 OFFSET $3", argument, limit, seen)
		if err != nil {
			return nil, 0, err
		}
		notes, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return nil, 0, err
		}
		for _, one := range notes {
			if rank := rankOf([]byte(one), groups); rank < best {
				note, skipped, best = []byte(one), seen, rank
			}
			if seen++; best == 0 || best == 1 && len(groups[0]) == 0 {
				return note, skipped, nil
			}
		}
		if len(notes) < limit {
			return note, skipped, nil
		}
	}
}

// rankOf is the place of the first group with a key that signed the note.
func rankOf(note []byte, groups [][]audit.Key) int {
	for rank, keys := range groups {
		if _, _, err := audit.OpenCheckpoint(note, keys...); err == nil {
			return rank
		}
	}
	return len(groups)
}
