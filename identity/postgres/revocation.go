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

	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/uuid"
)

// Scope is what a revocation ends.
type Scope string

// The scopes. There is none for everything: that is the emergency stop.
const (
	ScopeStep       Scope = "step"       // one step
	ScopeRepository Scope = "repository" // every step of a repository
)

const (
	maxRevocations = 10_000 // in force
	maxReason      = 4000   // bytes
	revokeTimeout  = 5 * time.Second
)

// channel is what LISTEN and NOTIFY call a change of the revocations.
const channel = "sallyport_revocations"

// Revocation is an operator's word that a step, or every step of a repository,
// is refused for a while.
type Revocation struct {
	ID         int64
	Scope      Scope
	UUID       string    // of the step or the repository, bare and lower-case
	RevokedAt  time.Time // by the database's clock
	Until      time.Time
	By, Reason string
}

// revocationSet is what is in force. It is not changed once it is published, but
// for the time at which it was last found to be true.
type revocationSet struct {
	steps, repositories map[string]struct{}
	list                []Revocation // by ID
	read                atomic.Int64 // Unix, in nanoseconds
}

func newRevocationSet(list []Revocation) *revocationSet {
	set := &revocationSet{steps: map[string]struct{}{}, repositories: map[string]struct{}{}, list: list}
	for _, r := range list {
		if r.Scope == ScopeStep {
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
	Revocation
	after int64 // reads that had begun when it was committed
}

func (r *Revocation) check() error {
	switch {
	case r.Scope != ScopeStep && r.Scope != ScopeRepository:
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
func readRevocations(ctx context.Context, db reader) ([]Revocation, error) {
	rows, err := db.Query(ctx, `
		SELECT id, CASE WHEN step_uuid IS NULL THEN 'repository' ELSE 'step' END, coalesce(step_uuid, repository_uuid)::text,
		       revoked_at, until, revoked_by, reason
		FROM identity.revocations r WHERE until > clock_timestamp() AND `+notLifted, pgx.QueryResultFormats{pgx.BinaryFormatCode})
	if err != nil {
		return nil, err
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r Revocation, err error) {
		err = row.Scan(&r.ID, &r.Scope, &r.UUID, &r.RevokedAt, &r.Until, &r.By, &r.Reason)
		return r, err
	})
	slices.SortFunc(list, func(a, b Revocation) int { return cmp.Compare(a.ID, b.ID) })
	return list, err
}

// notLifted is the condition that the revocation r was not lifted.
const notLifted = `NOT EXISTS (SELECT FROM identity.revocation_lifts x WHERE x.revocation_id = r.id)`

// watchOutage is a time without successful reads of the revocations, and its error.
type watchOutage struct {
	since time.Time
	err   error
}
