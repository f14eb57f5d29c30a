// Package postgres keeps what Sallyport knows of those who ask: names and for
// how long each was valid, tokens that were admitted, revocations, and what
// became known of pipelines.
//
// Nothing that a request waits for is written here. Names and admissions wait
// in memory, in bounded number, and are written in groups by [Store.Run]; a
// restart before that costs what can be fetched, or admitted, again. Revocations
// are read by [Store.Watch] into memory, where a request looks. Several
// instances share one database: every write is idempotent, and none undoes
// another's.
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

	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pause"
)

// Config configures the store. A zero field is its default.
type Config struct {
	URL string       // the database, as the role sallyport_writer or a member of it
	Log *slog.Logger // default: none

	// AdmittedMaxAge is how long after its admission a token may be accepted
	// (identity.expired_token_grace_period). Zero: tokens are neither stored nor accepted.
	AdmittedMaxAge time.Duration

	// NameReassigned receives every name that another UUID has now, once that is
	// written: in the instance that wrote it only. The goroutine of Run calls it. It
	// must not block, and may be nil. A crash in between loses the call; the view
	// identity.reassigned_names still shows it.
	NameReassigned func(Reassignment)
}

// Store is the database's part of identity. It is safe for concurrent use.
type Store struct {
	config  Config
	log     *slog.Logger
	pool    *pgxpool.Pool
	connect *pgx.ConnConfig // of the connection that watches
	// instance distinguishes the sessions of this process from those of others.
	instance       string
	confirmTimeout time.Duration

	names      *backlog[nameKey, observed]
	admissions *backlog[digest, admission]
	admitted   recent
	tokens     atomic.Int64 // rows of admitted tokens, when they were last counted

	namesBlocked atomic.Int64 // since when another session holds the lock of names, in Unix nanoseconds; 0: none does

	revoked atomic.Pointer[revocationSet]
	reads   atomic.Int64 // of the revocations that Watch has begun
	ownMu   sync.Mutex   // held while revoked is replaced
	own     []ownRevocation
	outage  atomic.Pointer[watchOutage] // nil: the set is up to date
}

// explain adds to an error of the database what to do.
func (s *Store) explain(operation string, err error) error {
	return database.Explain(operation, &s.connect.Config, err)
}

// transact runs one transaction on a connection of the pool. What it returns is
// unknown to have happened where it fails. Where the server is read-only, or the
// connection turns out to be lost before it began, nothing has, and it is tried
// again for five seconds.
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

// retry does something again where it was done on a session of a former primary:
// those are dropped, and the next one may reach the new primary.
func (s *Store) retry(ctx context.Context, do func() error) error {
	for end := time.Now().Add(revokeTimeout); ; {
		err := do()
		_, again := errors.AsType[notBegun](err)
		if !again && !database.IsReadOnly(err) || time.Now().After(end) || !pause.For(ctx, confirmPoll) {
			return err
		}
	}
}
