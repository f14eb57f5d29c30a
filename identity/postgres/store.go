// Package postgres stores what Sallyport knows of its principals: names with their periods of
// validity, admitted tokens, revocations, and facts about pipelines.
//
// No request waits for a write of this package. Names and admissions are queued in memory,
// within bounds, and [Store.Run] writes them in groups. A restart before that loses only what
// can be fetched or admitted again. [Store.Watch] reads revocations into memory, where
// requests check them. Several instances share one database: every write is idempotent, and
// no write reverts that of another instance.
package postgres

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/database/listen"
	"github.com/sallyport/sallyport/internal/pause"
)

// Config configures the store. A zero field means its default.
type Config struct {
	URL string       // the database, as the role sallyport_writer or a member of it
	Log *slog.Logger // default: none

	// AdmittedMaxAge is how long after its admission an expired token may be accepted
	// (identity.expired_token_grace_period). 0: tokens are not stored, and
	// expired tokens are not accepted.
	AdmittedMaxAge time.Duration

	// NameReassigned is called after a name was stored for another UUID than before, only
	// in the instance that stored it. The goroutine of Run calls it. It must not block,
	// and may be nil. A crash between write and call loses the call; the view
	// identity.reassigned_names still lists the name.
	NameReassigned func(identity.Reassignment)
}

// Store is the database of identities. It is safe for concurrent use.
type Store struct {
	config  Config
	log     *slog.Logger
	pool    *pgxpool.Pool
	connect *pgx.ConnConfig // of the sessions
	// instance distinguishes the sessions of this process from those of others.
	instance       string
	confirmTimeout time.Duration

	names      *backlog[nameKey, observed]
	admissions *backlog[digest, admission]
	admitted   recent
	tokens     atomic.Int64 // rows of admitted tokens, when they were last counted

	// namesBlocked is since when another session has held the lock of names, in Unix
	// nanoseconds. 0: none holds it.
	namesBlocked atomic.Int64

	revoked atomic.Pointer[revocationSet]
	reads   atomic.Int64 // reads of the revocations that Watch has started
	ownMu   sync.Mutex   // held while revoked is replaced
	own     []ownRevocation

	listener *listen.Listener // of the revocations
}

// explain adds a hint for the operator to an error of the database.
func (s *Store) explain(operation string, err error) error {
	return database.Explain(operation, &s.connect.Config, err)
}

// transact runs one transaction on a connection of the pool. If it returns an error, the
// outcome of the transaction is unknown. If the server is read-only, or the connection was
// lost before the transaction began, nothing was written: transact retries for
// revokeTimeout.
func (s *Store) transact(ctx context.Context, do func(pgx.Tx) error) error {
	return s.retry(ctx, func() error {
		conn, err := s.pool.Acquire(ctx)
		if err != nil {
			return err
		}
		defer conn.Release()
		if err := database.Durable(ctx, conn.Conn().PgConn()); err != nil {
			if conn.Conn().IsClosed() {
				return notBegun{err}
			}
			return err
		}
		return pgx.BeginFunc(ctx, conn, do)
	})
}

// notBegun is the error of a connection that was lost before a transaction began.
type notBegun struct{ error }

func (e notBegun) Unwrap() error { return e.error }

// retry calls do again if it failed on a session of a former primary. Such sessions are
// closed, and the next one may reach the new primary.
func (s *Store) retry(ctx context.Context, do func() error) error {
	for end := time.Now().Add(revokeTimeout); ; {
		err := do()
		_, lost := errors.AsType[notBegun](err)
		if !lost && !database.IsReadOnly(err) || time.Now().After(end) || !pause.For(ctx, confirmPoll) {
			return err
		}
	}
}
