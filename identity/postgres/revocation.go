package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/uuid"
)

const (
	maxRevocations = 10_000 // in force
	maxReason      = 4000   // bytes
	revokeTimeout  = 5 * time.Second
)

// channel is what LISTEN and NOTIFY call a change of the revocations.
const channel = "sallyport_revocations"

// revocationSet is what is in force. It is not changed once it is published, but
// for the time at which it was last found to be true.
type revocationSet struct {
	steps, repositories map[string]struct{}
	list                []identity.Revocation // by ID
	read                atomic.Int64          // Unix, in nanoseconds
}

func newRevocationSet(list []identity.Revocation) *revocationSet {
	set := &revocationSet{steps: map[string]struct{}{}, repositories: map[string]struct{}{}, list: list}
	for _, r := range list {
		if r.Scope == identity.ScopeStep {
			set.steps[r.UUID] = struct{}{}
		} else {
			set.repositories[r.UUID] = struct{}{}
		}
	}
	set.read.Store(time.Now().UnixNano())
	return set
}

// ownRevocation is a revocation of this store that a read of the database may
// not show yet.
type ownRevocation struct {
	identity.Revocation
	after int64 // reads that had begun when it was committed
}

// checkRevocation returns what keeps a revocation from being stored.
func checkRevocation(r *identity.Revocation) error {
	switch {
	case r.Scope != identity.ScopeStep && r.Scope != identity.ScopeRepository:
		return errors.New("only a step or a repository can be revoked")
	case !uuid.IsCanonical(r.UUID):
		return errors.New("it is not a bare lower-case UUID")
	case strings.TrimSpace(r.By) == "" || !database.IsText(r.By, maxText):
		return fmt.Errorf("the operator is not text of 1 to %d bytes: name who revokes", maxText)
	case !database.IsText(r.Reason, maxReason):
		return fmt.Errorf("the reason is not text of at most %d bytes: shorten it", maxReason)
	case r.Until.Year() > 9999:
		return errors.New("its end is too far away")
	}
	return nil
}

// reader is a connection or a pool.
type reader interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// readRevocations reads what is in force. There is no limit on how much: what
// is not read would be let through.
func readRevocations(ctx context.Context, db reader) ([]identity.Revocation, error) {
	rows, err := db.Query(ctx, `
		SELECT id, CASE WHEN step_uuid IS NULL THEN 'repository' ELSE 'step' END, coalesce(step_uuid, repository_uuid)::text,
		       revoked_at, until, revoked_by, reason
		FROM identity.revocations r WHERE until > clock_timestamp() AND `+notLifted, pgx.QueryResultFormats{pgx.BinaryFormatCode})
	if err != nil {
		return nil, err
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r identity.Revocation, err error) {
		err = row.Scan(&r.ID, &r.Scope, &r.UUID, &r.RevokedAt, &r.Until, &r.By, &r.Reason)
		return r, err
	})
	slices.SortFunc(list, func(a, b identity.Revocation) int { return cmp.Compare(a.ID, b.ID) })
	return list, err
}

// notLifted is the condition that the revocation r was not lifted.
const notLifted = `NOT EXISTS (SELECT FROM identity.revocation_lifts x WHERE x.revocation_id = r.id)`
