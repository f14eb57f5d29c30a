// Package sealer adds the leaves of recorded events to the log's tree, signs and publishes
// checkpoints of the tree, and compares it with published checkpoints. It attests the schema
// and the access to the log. It also implements the operations of the log's owner: keys,
// declared gaps, retention, and the thinning of checkpoints.
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

// Sealer adds recorded events to the Merkle tree, signs checkpoints and publishes them. Any
// number of instances may run a Sealer on one database: a lock in the database admits one at
// a time. The state that a Sealer continues from is only in the database.
type Sealer struct {
	config  Config
	connect *pgx.ConnConfig
	log     *slog.Logger

	conn *pgx.Conn
	// replication is the server's state of replication to a standby.
	replication   database.Replication
	writers       writers
	passSteps     int     // steps of this pass
	locked        bool    // the latest step held the sealing lock
	keys          keyring // of this connection
	batchHalvings int     // how often the batch is halved, because steps timed out
	lockHolder    lockHolderState
	heartbeat     heartbeatState
	gapValid      map[int64]bool       // by number of a sealed declaration: whether sealing may skip the gap
	absent        map[string]time.Time // by writer without a session: since when
	lost          map[string]int64     // last numbers of the writers that are recorded as lost
	now           func() time.Time
	compared      time.Time        // when the places were last compared with the database; zero: not on this connection
	newest        audit.Checkpoint // the newest that this instance published or read from the database
	registered    time.Time        // when this instance recorded the log's first key; zero: never
	fork          string           // the recorded fork; "": none
	// compareNewest is comparePublished; a test replaces it to show that it is needed.
	compareNewest func(context.Context, pgx.Tx, latest) error
	// gatherNext is gather; a test replaces it to show that its shares are needed.
	gatherNext func(context.Context, pgx.Tx) (batch, error)
	// readRegistrations is readPage; a test replaces it to show that it is needed.
	readRegistrations func(context.Context, pgx.Tx) (end bool, err error)
	// shares is the function shares; a test replaces it to show that it is needed.
	shares func(ready []pending, batch, rotation int) []pending
	// writersPerStep bounds the writers that a step surveys in addition to the live ones,
	// and the names that a step reads. A test sets it to show that it is needed.
	writersPerStep int
	places         []*place

	mu     sync.Mutex
	status Status
}

// session returns the current connection, or opens one.
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
	// After a failover this is another server: reset what was read from the former one.
	s.conn, s.writers, s.keys, s.compared = conn, newWriters(), keyring{}, time.Time{}
	return conn, nil
}

// drop closes the connection. The next step opens another.
func (s *Sealer) drop() {
	if s.conn != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.conn.Close(ctx)
		s.conn = nil
	}
}

// heartbeatState determines whether a checkpoint is due although no event waits to be sealed.
type heartbeatState struct {
	note string    // of the latest checkpoint that this instance read
	at   time.Time // when this instance first read it, by its own clock; zero: at the start
}

// lockHolder is what an instance observes of the session that holds the sealing lock.
type lockHolderState struct {
	size    int64     // of the latest checkpoint
	since   time.Time // since when it is the latest while events wait; zero: none waits
	stalled bool      // the other session shows no progress
}
