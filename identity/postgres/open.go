package postgres

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/database"
)

const (
	schemaNeeded = 3 // the migration that creates the schema identity
	poolSize     = 4 // connections, without that of Watch
)

// Open connects to the database, checks the version of the schema, and reads the revocations
// in force. An open store therefore never accepts a token that was revoked before. ctx bounds
// only Open itself. An error contains a hint for the operator. The caller must call
// [Store.Close].
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
	s.listener = s.newListener()
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

// Run writes waiting names and admissions, and deletes outdated admitted tokens, until ctx
// ends. Then it writes the remaining ones, for at most five seconds, and returns nil.
func (s *Store) Run(ctx context.Context) error {
	var all sync.WaitGroup
	all.Go(func() { s.names.run(ctx) })
	all.Go(func() { s.admissions.run(ctx) })
	all.Go(func() { s.sweep(ctx) })
	all.Wait()
	return nil
}

// Close closes the connections. Run and Watch must have returned, and no goroutine may use
// the store.
func (s *Store) Close() { s.pool.Close() }

// Status is the state of the store, for /readyz and metrics.
type Status struct {
	Revocations      int       // in force, as far as is known
	RevocationsRead  time.Time // when they were last read
	RevocationsSince time.Time // since when they cannot be read; zero: no outage
	RevocationsError error     // why they cannot be read

	NamesWaiting int   // names that wait to be written
	NamesLost    int64 // names dropped because the database refused them or the queue was full
	NamesError   error // of the latest attempt to write; nil if it succeeded
	// NamesBlocked is since when another session has held the lock of names for longer than
	// a writer waits; zero: none holds it. NamesError names the session.
	NamesBlocked time.Time

	Admitted          int64 // stored tokens, when they were last counted
	AdmissionsWaiting int
	AdmissionsLost    int64
	AdmissionsError   error
}

// Status returns the state of the store. It does not query the database and is safe for
// concurrent use.
func (s *Store) Status() Status {
	set := s.revoked.Load()
	st := Status{Revocations: len(set.list), RevocationsRead: time.Unix(0, set.read.Load()), Admitted: s.tokens.Load()}
	if o := s.listener.Outage(); o != nil {
		st.RevocationsSince, st.RevocationsError = o.Since, o.Err
	}
	if at := s.namesBlocked.Load(); at != 0 {
		st.NamesBlocked = time.Unix(0, at)
	}
	st.NamesWaiting, st.NamesLost, st.NamesError = s.names.status()
	st.AdmissionsWaiting, st.AdmissionsLost, st.AdmissionsError = s.admissions.status()
	return st
}
