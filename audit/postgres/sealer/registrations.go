package sealer

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
)

const isRegistration = `kind = '` + string(audit.KindSigningKey) + `'`

// registrationOrNull is the record of a row v, or NULL where that is too long.
const registrationOrNull = `CASE WHEN octet_length(v.record) <= $4 OR octet_length(v.record_rest) <= $4 THEN audit.record(v) END`

const (
	// pageSQL reads the next events that name a key in the order of an index, which
	// has no other events.
	pageSQL = `SELECT e.writer, e.writer_sequence, e.record, l.sealed IS NOT NULL FROM (
			SELECT v.writer, v.writer_sequence, ` + registrationOrNull + ` AS record FROM audit.events v
			WHERE v.` + isRegistration + ` AND (v.writer, v.writer_sequence) > ($1 COLLATE "C", $2::bigint)
			ORDER BY v.writer, v.writer_sequence LIMIT $3
		) e LEFT JOIN LATERAL (
			SELECT true AS sealed FROM audit.leaves l WHERE l.writer = e.writer AND l.writer_sequence = e.writer_sequence LIMIT 1
		) l ON true ORDER BY e.writer, e.writer_sequence`
	// sealedSinceSQL reads those of some leaves.
	sealedSinceSQL = `SELECT e.record FROM (
			SELECT writer, min(writer_sequence) AS first, max(writer_sequence) AS last FROM audit.leaves WHERE index >= $1 AND index < $2 GROUP BY writer
		) r CROSS JOIN LATERAL (
			SELECT ` + registrationOrNull + ` AS record FROM audit.events v
			WHERE v.` + isRegistration + ` AND v.writer = r.writer AND v.writer_sequence BETWEEN r.first AND r.last LIMIT $3
		) e`
)

// readKeys brings the keyring up to a number of leaves, with bounded work. It is
// false where that takes another step.
func (s *Sealer) readKeys(ctx context.Context, tx pgx.Tx, leaves int64) (complete bool, err error) {
	own := audit.Key("")
	if s.config.Signer != nil {
		own = s.config.Signer.Key()
	}
	k := &s.keys
	if !k.started || k.own != own || leaves < k.leaves {
		*k = newKeyring(own)
		k.started, k.leaves = true, leaves
	}
	if !k.complete {
		end, err := s.readRegistrations(ctx, tx)
		if err != nil {
			return false, err
		}
		k.complete, k.again = end && !k.again, k.again && !end
		return k.complete && k.leaves == leaves, nil
	}
	if k.leaves < leaves {
		return s.readSealedSince(ctx, tx, leaves)
	}
	return true, nil
}

// readPage reads the next events that name a key, sealed or not. At their end it is
// true, and the next page is the first. PostgreSQL estimates that few events name a
// key, so that sorting all of them seems cheap: that is off.
func (s *Sealer) readPage(ctx context.Context, tx pgx.Tx) (end bool, err error) {
	k := &s.keys
	read := 0
	var at eventKey
	var record []byte
	var sealed bool
	err = withoutSort(ctx, tx, func() error {
		rows, err := tx.Query(ctx, pageSQL, k.cursor.writer, k.cursor.sequence, registrationsPerStep, maxRegistration)
		if err != nil {
			return err
		}
		_, err = pgx.ForEachRow(rows, []any{&at.writer, &at.sequence, &record, &sealed}, func() error {
			read++
			if r, ok := audit.ReadRegistration(record); ok {
				k.consider(r, sealed, at)
			}
			return nil
		})
		return err
	})
	if err != nil {
		return false, fmt.Errorf("read signing keys: %w", err)
	}
	k.cursor = at
	if end = read < registrationsPerStep; end {
		k.cursor = eventKey{}
	}
	return end, nil
}

// withoutSort runs a query whose rows an index gives in their order.
func withoutSort(ctx context.Context, tx pgx.Tx, query func() error) error {
	if _, err := tx.Exec(ctx, "SET LOCAL enable_sort = off; SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off"); err != nil {
		return err
	}
	if err := query(); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, "SET LOCAL enable_sort = on; SET LOCAL enable_seqscan = on; SET LOCAL enable_bitmapscan = on")
	return err
}

// readSealedSince reads the events that were sealed since the keyring was complete.
func (s *Sealer) readSealedSince(ctx context.Context, tx pgx.Tx, leaves int64) (complete bool, err error) {
	var end int64 // the index of a leaf that a login added can be anything
	if err := tx.QueryRow(ctx, `SELECT coalesce(max(index) + 1, $2) FROM (
		SELECT index FROM audit.leaves WHERE index >= $1 AND index < $2 ORDER BY index LIMIT $3) l`, s.keys.leaves, leaves, leavesPerStep).Scan(&end); err != nil {
		return false, fmt.Errorf("read signing keys: %w", err)
	}
	var record []byte
	err = withoutSort(ctx, tx, func() error {
		rows, err := tx.Query(ctx, sealedSinceSQL, s.keys.leaves, end, leavesPerStep, maxRegistration)
		if err != nil {
			return err
		}
		_, err = pgx.ForEachRow(rows, []any{&record}, func() error {
			if r, ok := audit.ReadRegistration(record); ok {
				s.keys.consider(r, true, eventKey{})
			}
			return nil
		})
		return err
	})
	if err != nil {
		return false, fmt.Errorf("read signing keys: %w", err)
	}
	s.keys.leaves, s.keys.again = end, false // a hand-over follows those of the key that signs it
	return end == leaves, nil
}

// checkWaiting forgets the event that waits once it is sealed.
func (s *Sealer) checkWaiting(ctx context.Context, tx pgx.Tx) error {
	w := s.keys.waiting
	if w == nil {
		return nil
	}
	var sealed bool
	if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM audit.leaves WHERE writer = $1 AND writer_sequence = $2)`, w.writer, w.sequence).Scan(&sealed); err != nil {
		return fmt.Errorf("read signing keys: %w", err)
	}
	if sealed {
		s.keys.waiting = nil
	}
	return nil
}
