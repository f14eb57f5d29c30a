// Package sealer adds the leaves of recorded events to the log's tree, signs and publishes
// checkpoints over it, and compares it with what was published. It has also the tasks of
// the log's owner: keys, declared gaps, retention, and the thinning of checkpoints; and
// it attests the schema and who can reach the log.
package sealer

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/database"
)

// Sealer takes what was recorded into the Merkle tree, signs checkpoints and
// publishes them. Any number of instances may run one on one database: a lock
// keeps it to one at a time, and what each continues from is in the database alone.
type Sealer struct {
	config  Config
	connect *pgx.ConnConfig
	log     *slog.Logger

	conn *pgx.Conn
	// replication is what the server reports of our commits' way to a standby.
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

// lastSeen is what decides whether a checkpoint is due although nothing is to be
// sealed.
type lastSeen struct {
	note string    // of the latest checkpoint that was seen
	at   time.Time // when it was first seen, by our clock; zero: at the start
}

// other is what an instance observes of the session that has the turn to seal.
type other struct {
	size    int64     // of the latest checkpoint
	since   time.Time // that it was the latest, and something waited; zero: nothing did
	stalled bool      // nothing shows that the other session seals
}
