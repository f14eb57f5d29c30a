// Package sealer adds the leaves of recorded events to the log's tree, signs and publishes
// checkpoints over it, and compares it with what was published. It has also the tasks of
// the log's owner: keys, declared gaps, retention, and the thinning of checkpoints; and
// it attests the schema and who can reach the log.
package sealer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/database"
)

// A Publisher takes checkpoints to a place that whoever can change the database
// cannot change. It is used by one goroutine at a time, and never waited for by
// those who record.
type Publisher interface {
	// Name says which place it is, for operators.
	Name() string
	// Recent returns the newest checkpoints that the place has, some hundreds at
	// most, in any order; none where it has none, or cannot be read back. All of
	// them are compared with the database: the largest is not enough, because an
	// instance on another branch of the log may have published it.
	Recent(ctx context.Context) ([][]byte, error)
	// Publish returns nil when the place has the signed note for good. Where it
	// fails it is called again, with this note or a newer one.
	Publish(ctx context.Context, note []byte) error
}

// Config says how a log is sealed. A zero field is its default.
type Config struct {
	URL string // the database, as the role sallyport_sealer or a member of it
	Log *slog.Logger
	// Writer is the name of our own writer at this moment, which is not looked
	// for among the lost. Nil: there is none.
	Writer func() string
	// Record makes an event of ours durable.
	Record func(context.Context, *audit.Event) error
	// Signer is this instance's key; nil: it has none.
	Signer *audit.Signer
	// NewSigner makes a key and keeps it for the next start. It is called where
	// the log has no key and this instance has none. Nil: none is made.
	NewSigner func() (*audit.Signer, error)
	// ReadSigner reads this instance's key again, where the present one may not sign:
	// an operator has rotated it. Nil: it is not read again.
	ReadSigner func() (*audit.Signer, error)
	Publishers []Publisher
	// Interval is how often what was recorded since is sealed. Default 5 s.
	Interval time.Duration
	// Now is the clock of checkpoints and heartbeats. Nil: [time.Now].
	Now func() time.Time
	// LostAfter is how long a writer without its end may have no session before
	// that is recorded. Default 15 s.
	LostAfter time.Duration
	// PatienceWithOthers is how long another session may have the turn to seal
	// without sealing anything, while there is something to seal. Default 20 s.
	PatienceWithOthers time.Duration
	// CompareInterval is how often the places are compared with the database, beside
	// each new connection. Default 1 min.
	CompareInterval time.Duration
	// HeartbeatInterval is how old the latest checkpoint may become before another of
	// the same size is signed. Default [audit.HeartbeatInterval].
	HeartbeatInterval time.Duration
	// Batch bounds the leaves of one checkpoint. Default 20,000.
	Batch int
}

// Reasons for which an instance does not seal, wrapped in what an operator
// should know.
var (
	// ErrNoKey: another key is the log's.
	ErrNoKey = errors.New("this instance does not have the key that signs this log")
	// ErrBehind: a checkpoint outside covers more than the database has.
	ErrBehind = errors.New("the database is behind a published checkpoint: it was restored from a backup, or its end was cut off")
	// ErrForked: the database has another root at the size of a checkpoint that was
	// published, or that this instance saw.
	ErrForked = errors.New("the database holds another log than was published: it forked")
	// ErrMayNotSeal: the login lacks the privilege.
	ErrMayNotSeal = errors.New("the login may not seal the audit log")
	// ErrHeldUp: a session of a login that may seal has the turn to seal and does not.
	ErrHeldUp = errors.New("another session has the turn to seal and seals nothing; its transaction has a lock on audit.locks in pg_locks: end it with pg_terminate_backend")
)

// Sealer takes what was recorded into the Merkle tree, signs checkpoints and
// publishes them. Any number of instances may run one on one database: a lock
// keeps it to one at a time, and what each continues from is in the database alone.
type Sealer struct {
	config  Config
	connect *pgx.ConnConfig
	log     *slog.Logger

	conn *pgx.Conn
	// replication is what the server says of our commits' way to a standby.
	replication database.Replication
	writers     writers
	turns       int     // steps of this pass
	locked      bool    // the latest step had the lock of sealing
	keys        keyring // of this connection
	halvings    int     // of the batch, since steps timed out
	other       other
	heartbeat   lastSeen
	gapValid    map[int64]bool       // by the number of a sealed declaration: it may be stepped over
	absent      map[string]time.Time // writers without a session, since when
	lost        map[string]int64     // writers that are recorded as lost, with their last number
	now         func() time.Time
	compared    time.Time        // when the places were last compared with the database; zero: not on this connection
	newest      audit.Checkpoint // the newest that this instance published or saw in the database
	registered  time.Time        // when the log's first key was recorded by this instance; zero: not so
	fork        string           // the fork that is recorded; "": none
	// compareNewest is a field so that a test can show that it is needed.
	compareNewest func(context.Context, pgx.Tx, latest) error
	// gatherNext is gather; a test replaces it to show that its shares are needed.
	gatherNext func(context.Context, pgx.Tx) (batch, error)
	// readRegistrations is readPage; a test replaces it to show that it is needed.
	readRegistrations func(context.Context, pgx.Tx) (end bool, err error)
	// shares is the function of that name; a test replaces it also.
	shares func(ready []pending, batch, turn int) []pending
	// writersPerStep bounds the writers beside the live ones that a step surveys, and
	// the names that it reads; a test sets it to show that it is needed.
	writersPerStep int
	places         []*place

	mu     sync.Mutex
	status Status
}

// PlaceStatus is what is known of a place of publication.
type PlaceStatus struct {
	Name   string
	Size   int64 // of the latest checkpoint that it has
	Failed int64 // attempts that failed
	Err    error // of the latest attempt; nil: it has what it should
}

// Open makes a sealer. It connects to nothing yet: [Sealer.Run] does.
func Open(config Config) (*Sealer, error) {
	config.Log = cmp.Or(config.Log, slog.New(slog.DiscardHandler))
	config.Interval = cmp.Or(config.Interval, 5*time.Second)
	config.LostAfter = cmp.Or(config.LostAfter, 15*time.Second)
	config.PatienceWithOthers = cmp.Or(config.PatienceWithOthers, 20*time.Second)
	config.CompareInterval = cmp.Or(config.CompareInterval, time.Minute)
	config.HeartbeatInterval = cmp.Or(config.HeartbeatInterval, audit.HeartbeatInterval)
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Writer == nil {
		config.Writer = func() string { return "" }
	}
	config.Batch = cmp.Or(config.Batch, 20000)
	connect, err := database.ParseConfig(config.URL, "sallyport sealer")
	if err != nil {
		return nil, fmt.Errorf("seal the audit log: %w", err)
	}
	connect.RuntimeParams["application_name"] = "sallyport sealer"
	// Who stops in the middle holds the lock no longer than this.
	database.Set(&connect.Config, map[string]string{"idle_in_transaction_session_timeout": "5000"})
	s := &Sealer{config: config, connect: connect, log: config.Log, now: config.Now, writers: newWriters(), absent: make(map[string]time.Time), lost: make(map[string]int64), writersPerStep: defaultWritersPerStep}
	s.replication.Watch(&connect.Config)
	s.gatherNext, s.compareNewest, s.shares, s.readRegistrations = s.gather, s.comparePublished, shares, s.readPage
	for _, p := range config.Publishers {
		s.places = append(s.places, newPlace(p, s.log))
	}
	return s, nil
}

// Run seals until ctx ends. It returns when nothing of it runs any more, but
// what Close does.
func (s *Sealer) Run(ctx context.Context) {
	tick := time.NewTicker(s.config.Interval)
	defer tick.Stop()
	for {
		_ = s.Seal(ctx) // it is in the status
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// How often Close tries to acquire the lock of sealing, and the pause between.
const (
	closeAttempts = 20
	closePause    = 100 * time.Millisecond
)

// Close seals what is left, once Run has returned and the log is closed, waits
// until it is published and ends the connection. Where ctx ends first, what is
// left is sealed or published by the next process.
func (s *Sealer) Close(ctx context.Context) error {
	err := s.Seal(ctx)
	// A step that Run's end interrupted may hold the lock until the database notices
	// that its connection is closed; so may another instance for one of its steps.
	for again := 0; err == nil && !s.locked && again < closeAttempts && ctx.Err() == nil; again++ {
		select {
		case <-time.After(closePause):
			err = s.Seal(ctx)
		case <-ctx.Done():
		}
	}
	for _, p := range s.places {
		p.close(ctx)
	}
	if s.conn != nil {
		_ = s.conn.Close(context.WithoutCancel(ctx))
		s.conn = nil
	}
	return err
}

// Seal seals all that can be sealed now. It is called by one goroutine at a time.
func (s *Sealer) Seal(ctx context.Context) error {
	var err error
	s.turns = 0
	for more := true; more && err == nil; {
		more, err = s.step(ctx)
	}
	if err != nil && ctx.Err() == nil {
		s.behindAfterFailure(ctx)
	}
	if ctx.Err() == nil || err == nil {
		s.note(err)
	}
	return err
}

// session returns the connection, and makes one if there is none.
func (s *Sealer) session(ctx context.Context) (*pgx.Conn, error) {
	if s.conn != nil && !s.conn.IsClosed() {
		return s.conn, nil
	}
	conn, err := database.Connect(ctx, s.connect)
	if err != nil {
		return nil, err
	}
	err = database.CheckVersion(ctx, conn)
	if err == nil {
		err = database.Durable(ctx, conn.PgConn())
	}
	if err == nil {
		err = database.Confirm(ctx, conn.PgConn(), s.config.Interval)
	}
	if err != nil {
		_ = conn.Close(context.WithoutCancel(ctx))
		return nil, database.Explain("seal", &s.connect.Config, err)
	}
	_ = s.replication.Err() // of the session before
	// After a failover this is another server.
	s.conn, s.writers, s.keys, s.compared = conn, newWriters(), keyring{}, time.Time{}
	return conn, nil
}

// drop ends the connection; the next step makes another.
func (s *Sealer) drop() {
	if s.conn != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.conn.Close(ctx)
		s.conn = nil
	}
}
