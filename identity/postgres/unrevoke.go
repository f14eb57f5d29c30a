package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/identity"
)

// Unrevoke lifts every revocation of a step or repository that is in force, as
// if it had never been, and returns how many there were. Every instance knows of
// it within two seconds. It returns when it is durable. A step whose repository
// is revoked stays so.
func (s *Store) Unrevoke(ctx context.Context, scope identity.RevocationScope, uuid, by, why string) (lifted int, err error) {
	r := identity.Revocation{Scope: scope, UUID: uuid, By: by, Reason: why, Until: time.Unix(0, 0)}
	if err := checkRevocation(&r); err != nil {
		return 0, fmt.Errorf("unrevoke %s %q: %w", scope, uuid, err)
	}
	ctx, cancel := context.WithTimeout(ctx, revokeTimeout)
	defer cancel()
	column := "step_uuid"
	if scope == identity.ScopeRepository {
		column = "repository_uuid"
	}
	err = s.transact(ctx, func(tx pgx.Tx) error {
		// A notification is sent when the transaction commits, and only then.
		return tx.QueryRow(ctx, `
			WITH added AS (
				INSERT INTO identity.revocation_lifts (revocation_id, lifted_by, reason)
				SELECT r.id, $2, $3 FROM identity.revocations r
				WHERE r.`+column+` = $1::text::uuid AND r.until > clock_timestamp() AND `+notLifted+`
				ON CONFLICT DO NOTHING RETURNING revocation_id
			)
			SELECT (SELECT count(*) FROM added) FROM pg_notify('`+channel+`', '')`, uuid, by, why).Scan(&lifted)
	})
	if err != nil {
		return 0, fmt.Errorf("unrevoke %s %q: %w", scope, uuid, s.explain("write", err))
	}
	return lifted, nil
}

// Revocations reads what is in force from the database.
func (s *Store) Revocations(ctx context.Context) ([]identity.Revocation, error) {
	ctx, cancel := context.WithTimeout(ctx, revokeTimeout)
	defer cancel()
	list, err := readRevocations(ctx, s.pool)
	if err != nil {
		return nil, fmt.Errorf("identity store: %w", s.explain("read revocations", err))
	}
	return list, nil
}
