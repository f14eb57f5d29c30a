package reader

import (
	"bufio"
	"context"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/sallyport/sallyport/internal/database"
)

// Open connects, and takes the moment.
func Open(ctx context.Context, url string) (*Reader, error) {
	connect, err := database.ParseConfig(url, "sallyport reader")
	if err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	database.Set(&connect.Config, map[string]string{"statement_timeout": "0", "idle_in_transaction_session_timeout": "0"})
	// The log comes in long runs: a large buffer saves most of the reads.
	connect.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		return pgproto3.NewFrontend(bufio.NewReaderSize(r, 256<<10), w)
	}
	r := &Reader{connect: connect}
	if r.conn, err = database.Connect(ctx, connect); err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	if err := r.begin(ctx); err != nil {
		r.Close()
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	return r, nil
}

func (r *Reader) begin(ctx context.Context) error {
	if err := database.CheckVersion(ctx, r.conn); err != nil {
		return err
	}
	var err error
	if r.tx, err = r.conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}); err != nil {
		return database.Explain("begin", &r.connect.Config, err)
	}
	// Before the snapshot is created: if retention dropped a partition after that, this
	// reader would not see the partition, nor the event that records its removal.
	if _, err := r.tx.Exec(ctx, `LOCK TABLE audit.events IN ACCESS SHARE MODE`); err != nil {
		return database.Explain("lock", &r.connect.Config, err)
	}
	if err := r.tx.QueryRow(ctx, `SELECT (SELECT coalesce(max(index), -1) + 1 FROM audit.leaves),
		(SELECT coalesce(sum(greatest(reltuples, 0)), 0)::bigint FROM pg_class WHERE oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'audit.events'::regclass))`).
		Scan(&r.leaves, &r.events); err != nil {
		return database.Explain("look", &r.connect.Config, err)
	}
	return nil
}
