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
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pause"
)

const (
	schemaNeeded = 3                // the migration that made the schema identity
	poolSize     = 4                // connections, besides the one that watches
	writeTimeout = 10 * time.Second // of one transaction in the background
)

// Config says where the store is. A zero field is its default.
type Config struct {
	URL string       // the database, as the role sallyport_writer or a member of it
	Log *slog.Logger // default: none

	// AdmittedMaxAge is how long after its admission a token may be accepted
	// (identity.expired_token_grace_period). Zero: tokens are neither kept nor accepted.
	AdmittedMaxAge time.Duration

	// NameMoved is told of every name that passed from one UUID to another, once
	// it is written down: by the instance that wrote it, and by no other. It is
	// called by the goroutine of Run, must not block, and may be nil. A crash in
	// between loses the call; the view identity.reassigned_names still shows it.
	NameMoved func(Move)
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

// Open connects, checks that the schema is there, and reads the revocations in
// force, so that a store that is open never accepts what is revoked. ctx bounds
// opening alone. An error says what an operator should do.
func Open(ctx context.Context, config Config) (*Store, error) {
	s := &Store{config: config, instance: newInstance(), confirmTimeout: confirmTimeout, log: cmp.Or(config.Log, slog.New(slog.DiscardHandler))}
	if err := s.open(ctx); err != nil {
		return nil, fmt.Errorf("identity store: %w", err)
	}
	return s, nil
}

func (s *Store) open(ctx context.Context) error {
	var err error
	if s.connect, err = database.ParseConfig(s.config.URL, "sallyport revocations"); err != nil {
		return err
	}
	if s.pool, err = database.NewPool(ctx, s.config.URL, poolName+s.instance, poolSize); err != nil {
		return err
	}
	if err := checkSchema(ctx, s.pool); err != nil {
		s.pool.Close()
		return err
	}
	list, err := readRevocations(ctx, s.pool)
	if err != nil {
		s.pool.Close()
		return s.explain("read revocations", err)
	}
	s.revoked.Store(newRevocationSet(list))
	s.names = newBacklog[nameKey]("names", maxNamesWaiting, 500, time.Second, s.writeNames, s.log)
	s.admissions = newBacklog[digest]("admitted tokens", maxAdmissionsWaiting, 500, 200*time.Millisecond, s.writeAdmissions, s.log)
	return nil
}

func checkSchema(ctx context.Context, db database.Querier) error {
	if err := database.CheckVersion(ctx, db); err != nil {
		return err
	}
	version, err := database.Version(ctx, db)
	if err == nil && version < schemaNeeded {
		err = fmt.Errorf("the database's schema is version %d, and names, admitted tokens and revocations need %d; run `sallyport migrate`", version, schemaNeeded)
	}
	return err
}

// Run writes what waits, and removes admitted tokens whose time is over, until
// ctx ends; then it writes what is left, for no longer than five seconds, and
// returns nil.
func (s *Store) Run(ctx context.Context) error {
	var all sync.WaitGroup
	all.Go(func() { s.names.run(ctx) })
	all.Go(func() { s.admissions.run(ctx) })
	all.Go(func() { s.sweep(ctx) })
	all.Wait()
	return nil
}

// Close gives the connections back. It is called when Run and Watch have
// returned and nobody asks any more.
func (s *Store) Close() { s.pool.Close() }

// Status is what is to be said of the store, for /readyz and metrics.
type Status struct {
	Revocations      int       // in force, as far as is known
	RevocationsRead  time.Time // when they were last read
	RevocationsSince time.Time // since when they cannot be read; zero: they can
	RevocationsError error     // why

	NamesWaiting int   // to be written
	NamesLost    int64 // that the database refused, or for which there was no room
	NamesError   error // of the latest attempt to write; nil when it succeeded
	// NamesBlocked is since when another session has held the lock of names for
	// longer than a writer waits; zero: none has. NamesError names the session.
	NamesBlocked time.Time

	Admitted          int64 // tokens kept, when they were last counted
	AdmissionsWaiting int
	AdmissionsLost    int64
	AdmissionsError   error
}

// Status returns the state of the store without asking the database.
func (s *Store) Status() Status {
	set := s.revoked.Load()
	st := Status{Revocations: len(set.list), RevocationsRead: time.Unix(0, set.read.Load()), Admitted: s.tokens.Load()}
	if o := s.outage.Load(); o != nil {
		st.RevocationsSince, st.RevocationsError = o.since, o.err
	}
	if at := s.namesBlocked.Load(); at != 0 {
		st.NamesBlocked = time.Unix(0, at)
	}
	st.NamesWaiting, st.NamesLost, st.NamesError = s.names.status()
	st.AdmissionsWaiting, st.AdmissionsLost, st.AdmissionsError = s.admissions.status()
	return st
}

// explain makes an error of the database one that says what to do.
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

// isContent reports whether the database refused what a row holds, so that
// writing it again is of no use: the classes "data exception", "integrity
// constraint violation" and "program limit exceeded" (PostgreSQL documentation,
// appendix A).
func isContent(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || len(pg.Code) != 5 {
		return false
	}
	switch pg.Code[:2] {
	case "22", "23", "54":
		return true
	}
	return false
}
