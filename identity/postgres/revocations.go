package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/database"
)

// Revoked reports whether the step or its repository is revoked now. UUIDs are
// bare and lower-case. It costs a memory read. While the database is unavailable, what
// was last in force stays in force.
func (s *Store) Revoked(stepUUID, repositoryUUID string) bool {
	set := s.revoked.Load()
	if len(set.list) == 0 {
		return false
	}
	_, step := set.steps[stepUUID]
	_, repository := set.repositories[repositoryUUID]
	return step || repository
}

// Revoke writes a revocation and notifies every instance, each of which refuses
// the step within two seconds. Where Revoke returns nil, the revocation is durable,
// in force here, and in force on every other instance that is connected to the
// database. Where it returns an [identity.UnconfirmedError], the revocation is durable and in
// force here. After another error it may be in force nevertheless; doing it again
// does no harm. Until must lie in the future, by the database's clock, and should lie
// after the end of any token that the step may still have. By names the
// operator, in 1 to 1,000 bytes; why has at most 4,000.
func (s *Store) Revoke(ctx context.Context, scope identity.RevocationScope, uuid string, until time.Time, by, why string) (identity.Revocation, error) {
	r := identity.Revocation{Scope: scope, UUID: uuid, Until: database.Timestamp(until), By: by, Reason: why}
	err := checkRevocation(&r)
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, revokeTimeout)
		defer cancel()
		err = s.revoke(ctx, &r)
	}
	if err != nil {
		return identity.Revocation{}, fmt.Errorf("revoke %s %q: %w", scope, uuid, err)
	}
	s.enforce(r)
	if err := s.awaitOthers(ctx); err != nil {
		return r, fmt.Errorf("revoke %s %q: %w", scope, uuid, err)
	}
	return r, nil
}

// enforce puts a committed revocation in force here, whether or not the database
// can be read at this moment.
func (s *Store) enforce(r identity.Revocation) {
	s.ownMu.Lock()
	defer s.ownMu.Unlock()
	s.own = append(s.own, ownRevocation{r, s.reads.Load()})
	s.revoked.Store(newRevocationSet(s.withOwn(s.revoked.Load().list)))
}

// withOwn adds to a list the own revocations that it lacks. The caller holds
// ownMu.
func (s *Store) withOwn(list []identity.Revocation) []identity.Revocation {
	list = slices.Clone(list)
	for _, o := range s.own {
		if !slices.ContainsFunc(list, func(r identity.Revocation) bool { return r.ID == o.ID }) {
			list = append(list, o.Revocation)
		}
	}
	slices.SortFunc(list, func(a, b identity.Revocation) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// replace makes a list the set in force that a read has found. A revocation of
// this store stays beside it until a read that began later shows it, or its end.
func (s *Store) replace(list []identity.Revocation, read int64) {
	s.ownMu.Lock()
	defer s.ownMu.Unlock()
	s.own = slices.DeleteFunc(s.own, func(o ownRevocation) bool { return o.after < read })
	list = s.withOwn(list)
	old := s.revoked.Load()
	if slices.EqualFunc(old.list, list, func(a, b identity.Revocation) bool { return a.ID == b.ID && a.Until.Equal(b.Until) }) {
		old.read.Store(time.Now().UnixNano())
		return
	}
	s.revoked.Store(newRevocationSet(list))
}

func (s *Store) revoke(ctx context.Context, r *identity.Revocation) error {
	var step, repository *string
	if r.Scope == identity.ScopeStep {
		step = &r.UUID
	} else {
		repository = &r.UUID
	}
	var inForce int64
	var future bool
	err := s.transact(ctx, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, `SELECT count(*), $1::timestamptz > clock_timestamp() FROM identity.revocations WHERE until > now()`, r.Until).
			Scan(&inForce, &future); err != nil || inForce >= maxRevocations || !future {
			return err
		}
		// A notification is sent when the transaction commits, and only then.
		return tx.QueryRow(ctx, `
			WITH added AS (
				INSERT INTO identity.revocations (step_uuid, repository_uuid, until, revoked_by, reason)
				VALUES ($1::text::uuid, $2::text::uuid, $3, $4, $5) RETURNING id, revoked_at
			)
			SELECT id, revoked_at FROM added, pg_notify('`+channel+`', '')`,
			step, repository, r.Until, r.By, r.Reason).Scan(&r.ID, &r.RevokedAt)
	})
	switch {
	case err != nil:
		return s.explain("write", err)
	case inForce >= maxRevocations:
		return fmt.Errorf("%d revocations are in force already; revoke a repository instead of its steps, or wait for some to end", inForce)
	case !future:
		return fmt.Errorf("its end, %s, has passed", r.Until.Format(time.RFC3339))
	}
	return nil
}
