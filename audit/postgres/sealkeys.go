package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
)

const (
	// maxRegistration bounds, in bytes, the record of an event that names a key:
	// those of the sealer take less than one kilobyte.
	maxRegistration = 16 << 10
	// maxUnsealedRegistrations bounds how many that are not sealed are read in one
	// step. They are sealed within seconds, and read as sealed ones then.
	maxUnsealedRegistrations = 1000
)

// knownKeys are the sealed events that name keys, as one connection has read them.
type knownKeys struct {
	list []registration
	next int64 // leaves below are read
}

const (
	sealedKeysSQL = `SELECT l.index, e.record FROM audit.events e
		JOIN audit.leaves l ON l.writer = e.writer AND l.writer_sequence = e.writer_sequence
		WHERE e.kind = $1 AND l.index >= $2 AND octet_length(e.record) <= $3 ORDER BY l.index`
	unsealedKeysSQL = `SELECT e.record FROM audit.events e
		WHERE e.kind = $1 AND octet_length(e.record) <= $2
		  AND NOT EXISTS (SELECT FROM audit.leaves l WHERE l.writer = e.writer AND l.writer_sequence = e.writer_sequence)
		ORDER BY e.time LIMIT $3`
)

// registrations lists the events that name keys, in the order of the tree, those
// that are not sealed at the end. Each record is read once for each connection:
// a login that may write can add any number of them.
func (s *Sealer) registrations(ctx context.Context, tx pgx.Tx) ([]registration, error) {
	rows, err := tx.Query(ctx, sealedKeysSQL, audit.KindSigningKey, s.keys.next, maxRegistration)
	if err != nil {
		return nil, fmt.Errorf("read signing keys: %w", err)
	}
	var index int64
	var record []byte
	if _, err = pgx.ForEachRow(rows, []any{&index, &record}, func() error {
		if r, ok := audit.RegistrationOf(record); ok {
			s.keys.list = append(s.keys.list, registration{r, true})
		}
		s.keys.next = index + 1
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read signing keys: %w", err)
	}
	all := s.keys.list[:len(s.keys.list):len(s.keys.list)]
	rows, err = tx.Query(ctx, unsealedKeysSQL, audit.KindSigningKey, maxRegistration, maxUnsealedRegistrations)
	if err != nil {
		return nil, fmt.Errorf("read signing keys: %w", err)
	}
	_, err = pgx.ForEachRow(rows, []any{&record}, func() error {
		if r, ok := audit.RegistrationOf(record); ok {
			all = append(all, registration{r, false})
		}
		return nil
	})
	return all, err
}
