package reader

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

// signingKeys are the keys whose checkpoints count. What is kept of the keys that
// strangers name is bounded, and only signatures that matter are verified.
func (r *Reader) signingKeys(ctx context.Context) (*audit.SigningKeys, error) {
	if r.signers != nil {
		return r.signers, nil
	}
	rows, err := r.tx.Query(ctx, registrationsSQL)
	if err != nil {
		return nil, fmt.Errorf("read the log's keys: %w", err)
	}
	keys := audit.NewSigningKeys(r.given...)
	var record []byte
	if _, err := pgx.ForEachRow(rows, []any{&record}, func() error {
		if one, ok := audit.ReadRegistration(record); ok {
			keys.Add(one)
		}
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read the log's keys: %w", err)
	}
	r.signers = keys
	return keys, nil
}

// firstSigned returns the first note of a query that a key of the best rank signed
// which any of the notes has, and how many it stepped over. Where no key signed any, it
// is the first note; a verifier detects that. The query takes one argument, and
// gives notes in their order. A login that may seal, and has no key, can add
// checkpoints without a valid signature.
func (r *Reader) firstSigned(ctx context.Context, sql string, argument any) (note []byte, skipped int, err error) {
	keys, err := r.signingKeys(ctx)
	if err != nil {
		return nil, 0, err
	}
	best := audit.RankNone + 1
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
			if rank := keys.Rank([]byte(one)); rank < best {
				note, skipped, best = []byte(one), seen, rank
			}
			if seen++; best == audit.RankTrusted || best == audit.RankChain && !keys.Given() {
				return note, skipped, nil
			}
		}
		if len(notes) < limit {
			return note, skipped, nil
		}
	}
}
