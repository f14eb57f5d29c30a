// Package reader reads the log back from PostgreSQL: for verification, export, evidence
// packs and proofs, for queries, statistics and streams, and for replays of a policy.
package reader

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/database"
)

// A Sink takes a log in its order; see audit.Verification, which is one.
type Sink interface {
	Sealed(*audit.Entry)
	Checkpoint(audit.Statement)
	Unsealed(*audit.Entry)
}

// Reader reads the whole log as it is at one moment, in the order of its tree.
// The role sallyport_auditor is enough. It is not safe for concurrent use.
type Reader struct {
	connect *pgx.ConnConfig
	conn    *pgx.Conn
	tx      pgx.Tx
	leaves  int64
	events  int64
	alone   bool               // what it reads no other connection sees
	window  int64              // how many leaves are read at once; 0: defaultWindow
	given   []audit.Key        // see Trust
	signers *audit.SigningKeys // see signingKeys; nil: not read yet
}

// Close ends the connection.
func (r *Reader) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = r.conn.Close(ctx)
}

// Leaves is how many sealed events there are to read.
func (r *Reader) Leaves() int64 { return r.leaves }

// defaultWindow is how many leaves are read at once: what a reader holds in memory
// is a few windows, however long the log is.
const defaultWindow = 4096

func (r *Reader) atOnce() int64 { return cmp.Or(r.window, defaultWindow) }

func (r *Reader) explain(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("read the audit log: %w", database.Explain(what, &r.connect.Config, err))
}
