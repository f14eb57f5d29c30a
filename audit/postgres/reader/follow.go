package reader

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	auditpg "github.com/sallyport/sallyport/audit/postgres"
	"github.com/sallyport/sallyport/internal/database"
)

// Follower reads sealed events in the order of the tree, a few at a time. Each
// reading is a statement of its own, with a timeout, and is over when Next
// returns: a caller that pauses between two of them holds neither a
// snapshot nor a lock. The role sallyport_auditor is enough. It is not safe for
// concurrent use.
type Follower struct {
	connect *pgx.ConnConfig
	conn    *pgx.Conn
	primary bool      // the server was when the session began
	checked time.Time // when it was last
}

// followPrimary is how often the server of a session that finds nothing new is
// checked: a former primary has no more.
const followPrimary = 5 * time.Second

// OpenFollower connects to the database with this connection string.
func OpenFollower(ctx context.Context, databaseURL string) (*Follower, error) {
	connect, err := database.ParseConfig(databaseURL, "sallyport stream")
	if err != nil {
		return nil, fmt.Errorf("follow the audit log: %w", err)
	}
	database.Set(&connect.Config, map[string]string{
		"default_transaction_read_only": "on",
		"statement_timeout":             "'10s'",
		"lock_timeout":                  "'5s'", // retention takes a partition away under a lock
		"tcp_user_timeout":              "'20s'",
	})
	f := &Follower{connect: connect}
	if f.conn, err = database.Connect(ctx, connect); err != nil {
		return nil, fmt.Errorf("follow the audit log: %w", err)
	}
	if err := database.CheckVersion(ctx, f.conn); err != nil {
		f.Close()
		return nil, fmt.Errorf("follow the audit log: %w", err)
	}
	if f.primary, err = database.IsPrimary(ctx, f.conn); err != nil {
		f.Close()
		return nil, f.explain(err)
	}
	f.checked = time.Now()
	return f, nil
}

// stayed returns an error where the server was the primary and is not any more.
func (f *Follower) stayed(ctx context.Context) error {
	if !f.primary || time.Since(f.checked) < followPrimary {
		return nil
	}
	primary, err := database.IsPrimary(ctx, f.conn)
	if err == nil && !primary {
		err = database.ErrFormerPrimary
	}
	f.checked = time.Now()
	return err
}

// Close ends the connection.
func (f *Follower) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = f.conn.Close(ctx)
}

// followSQL gives one event at least, and no more than fits the buffers of a
// connection: a reader that is stopped does not keep the statement from ending.
const followSQL = `WITH l AS MATERIALIZED (
		SELECT index, writer, writer_sequence, hash FROM audit.leaves WHERE index >= $1 ORDER BY index LIMIT 64
	), r AS (
		SELECT l.index, l.writer, l.writer_sequence, l.hash, e.record,
		       row_number() OVER w AS place, sum(200 + coalesce(octet_length(e.record), 0)) OVER w AS size
		FROM l LEFT JOIN LATERAL (
			SELECT audit.record(v) AS record FROM audit.events v WHERE v.writer = l.writer AND v.writer_sequence = l.writer_sequence ORDER BY v.time LIMIT 1
		) e ON true
		WINDOW w AS (ORDER BY l.index)
	)
	SELECT index, writer, writer_sequence, hash, record FROM r WHERE place = 1 OR size <= 65536 ORDER BY index`

// Next gives some of the leaves from this index on, in their order and without
// gaps, each with its event; none where there are no more yet. An entry without a
// record is of an event that retention has taken.
func (f *Follower) Next(ctx context.Context, index int64) ([]audit.Entry, error) {
	rows, err := f.conn.Query(ctx, followSQL, index)
	if err != nil {
		return nil, f.explain(err)
	}
	entries, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (audit.Entry, error) {
		var e audit.Entry
		var hash []byte
		if err := row.Scan(&e.Index, &e.Writer, &e.Sequence, &hash, &e.Record); err != nil {
			return e, err
		}
		if len(hash) != len(e.Hash) {
			return e, fmt.Errorf("%w: leaf %d has %d bytes", auditpg.ErrDamaged, e.Index, len(hash))
		}
		e.Hash = audit.Hash(hash)
		return e, nil
	})
	if err == nil && len(entries) == 0 {
		err = f.stayed(ctx)
	}
	if err != nil {
		return nil, f.explain(err)
	}
	for i := range entries {
		if want := index + int64(i); entries[i].Index != want {
			return nil, fmt.Errorf("follow the audit log: %w: there is no leaf %d", auditpg.ErrDamaged, want)
		}
	}
	return entries, nil
}

// Leaf gives the hash of a leaf, and whether there is such a leaf.
func (f *Follower) Leaf(ctx context.Context, index int64) (hash audit.Hash, ok bool, err error) {
	var b []byte
	err = f.conn.QueryRow(ctx, `SELECT hash FROM audit.leaves WHERE index = $1`, index).Scan(&b)
	if errors.Is(err, pgx.ErrNoRows) {
		return hash, false, nil
	}
	if err != nil {
		return hash, false, f.explain(err)
	}
	if len(b) != len(hash) {
		return hash, true, nil // no leaf of ours
	}
	return audit.Hash(b), true, nil
}

func (f *Follower) explain(err error) error {
	return fmt.Errorf("follow the audit log: %w", database.Explain("read", &f.connect.Config, err))
}
