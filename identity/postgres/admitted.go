package postgres

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pause"
	"github.com/sallyport/sallyport/internal/uuid"
)

const (
	maxAdmissionsWaiting = 10_000
	maxAdmitted          = 1_000_000 // rows; a step has one token
	lookupTimeout        = 2 * time.Second
	sweepEvery           = time.Minute
	sweepAtOnce          = 5_000
)

// Admit notes that the token behind p was verified and is valid now. It costs a
// memory read where that is known already, and never waits: Run writes it down,
// and only from then on is it an admission. What there is no room for is lost,
// and is noted again with the token's next request. It does nothing where
// Config.AdmittedMaxAge is zero, for a principal that was itself admitted, and
// for one that is revoked.
func (s *Store) Admit(p *identity.Principal) {
	if s.config.AdmittedMaxAge <= 0 || p.CredentialKind != identity.CredentialOIDC ||
		s.admitted.has(p.CredentialDigest) || s.Revoked(p.Step.UUID, p.Repository.UUID) {
		return
	}
	now := database.Timestamp(time.Now())
	a, err := newAdmission(p, now)
	if err != nil || s.tokens.Load() >= maxAdmitted {
		s.admissions.mu.Lock()
		s.admissions.lost++
		s.admissions.mu.Unlock()
		return
	}
	s.admissions.add(a.digest, a, func(*admission) bool { return true })
}

// writeAdmissions writes admissions down, each once: the first counts. The order
// of the keys is everybody's, so that two instances do not wait for each other
// in a circle.
func (s *Store) writeAdmissions(ctx context.Context, batch []admission) error {
	batch = slices.Clone(batch)
	slices.SortFunc(batch, func(a, b admission) int { return bytes.Compare(a.digest[:], b.digest[:]) })
	batch = slices.CompactFunc(batch, func(a, b admission) bool { return a.digest == b.digest })
	n := len(batch)
	digests, steps, repositories, issuers := make([][]byte, n), make([]string, n), make([]string, n), make([]string, n)
	at, expires, principals := make([]time.Time, n), make([]time.Time, n), make([]string, n)
	for i := range batch {
		a := &batch[i]
		digests[i], steps[i], repositories[i], issuers[i] = a.digest[:], a.step, a.repository, a.issuer
		at[i], expires[i], principals[i] = a.admittedAt, a.expires, string(a.principal)
	}
	// The clock of the database bounds ours: an admission must not seem younger
	// than a revocation that followed it.
	err := s.transact(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			INSERT INTO identity.admitted_tokens (digest, step_uuid, repository_uuid, issuer, admitted_at, expires, until, principal)
			SELECT digest, step_uuid, repository_uuid, issuer, least(at, now()), expires, least(at, now()) + $8::interval, principal
			FROM unnest($1::bytea[], $2::text[]::uuid[], $3::text[]::uuid[], $4::text[], $5::timestamptz[], $6::timestamptz[], $7::text[]::json[])
			     AS a (digest, step_uuid, repository_uuid, issuer, at, expires, principal)
			ORDER BY digest
			ON CONFLICT (digest) DO NOTHING`,
			digests, steps, repositories, issuers, at, expires, principals, s.config.AdmittedMaxAge)
		return err
	})
	if err != nil {
		return s.explain("write admitted tokens", err)
	}
	for i := range batch {
		s.admitted.put(batch[i].digest)
	}
	return nil
}

// Admitted returns the principal of a token that was admitted while it was
// valid, for its own step only, and whether there is one: it was written down,
// by whichever instance; it is not older than Config.AdmittedMaxAge; and neither
// its step nor its repository was revoked since, though the revocation may be
// over, unless it was lifted. The principal's kind of credential is [identity.CredentialAdmitted], its
// end is that of being accepted, and it has no names. An error means that the
// database could not be asked. It asks each time, and waits for two seconds at
// most; the caller verifies the token's signature first, so that a
// forged token causes no query.
func (s *Store) Admitted(ctx context.Context, digest [sha256.Size]byte, stepUUID string) (*identity.Principal, bool, error) {
	if s.config.AdmittedMaxAge <= 0 || !uuid.IsCanonical(stepUUID) {
		return nil, false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	var raw []byte
	var ends time.Time
	err := s.pool.QueryRow(ctx, `
		SELECT a.principal::text, least(a.until, a.admitted_at + $3::interval)
		FROM identity.admitted_tokens a
		WHERE a.digest = $1 AND a.step_uuid = $2::text::uuid
		  AND a.until > now() AND a.admitted_at + $3::interval > now()
		  AND NOT EXISTS (SELECT FROM identity.revocations r WHERE r.step_uuid = a.step_uuid AND (r.revoked_at >= a.admitted_at OR r.until > now()) AND `+notLifted+`)
		  AND NOT EXISTS (SELECT FROM identity.revocations r WHERE r.repository_uuid = a.repository_uuid AND (r.revoked_at >= a.admitted_at OR r.until > now()) AND `+notLifted+`)`,
		digest[:], stepUUID, s.config.AdmittedMaxAge).Scan(&raw, &ends)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("identity store: %w", s.explain("look for an admitted token", err))
	}
	p, err := rebuild(raw)
	if err == nil && p.Step.UUID != stepUUID {
		err = errors.New("it is of another step")
	}
	if err != nil {
		return nil, false, fmt.Errorf("identity store: an admitted token of step %s: %w", stepUUID, err)
	}
	p.CredentialDigest, p.Expires = digest, ends
	return p, true, nil
}

// sweep removes what may not be accepted any more, and counts the rest, at once
// and then once a minute.
func (s *Store) sweep(ctx context.Context) {
	failed := false
	for {
		err := s.sweepOnce(ctx)
		if err != nil && ctx.Err() == nil && !failed {
			s.log.WarnContext(ctx, "identity store: ended tokens are not removed", "error", err)
		}
		failed = err != nil
		if !pause.For(ctx, sweepEvery) {
			return
		}
	}
}

func (s *Store) sweepOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	for {
		// One instance at a time; the others need not.
		tag, err := s.pool.Exec(ctx, `
			DELETE FROM identity.admitted_tokens WHERE digest IN (
				SELECT digest FROM identity.admitted_tokens
				WHERE until <= now() AND (SELECT audit.try_admitted_tokens_lock())
				ORDER BY until LIMIT $1)`, sweepAtOnce)
		if err != nil {
			return s.explain("remove ended tokens", err)
		}
		if tag.RowsAffected() < sweepAtOnce {
			break
		}
	}
	var left int64
	if err := s.pool.QueryRow(ctx, `SELECT count(*) FROM identity.admitted_tokens`).Scan(&left); err != nil {
		return s.explain("count admitted tokens", err)
	}
	s.tokens.Store(left)
	return nil
}
