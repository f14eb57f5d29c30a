package database

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// errPooled reports the effect of a pooler in transaction mode.
var errPooled = errors.New("the database URL leads to a connection pooler in transaction mode, which gives each transaction another session: " +
	"settings, prepared statements and the end of earlier sessions would be those of others; use pool_mode = session for this database or login in PgBouncer, or connect to PostgreSQL directly")

// CheckSessions returns an error where a connection is not a session of its own:
// behind a pooler in transaction or statement mode. It opens two connections. A
// pooler gives a transaction of the second one the server connection of the
// first, which is idle, or the first another one afterwards; PostgreSQL and a
// pooler in session mode do neither.
func CheckSessions(ctx context.Context, config *pgx.ConnConfig) error {
	first, err := Connect(ctx, config)
	if err != nil {
		return err
	}
	defer closeSoon(ctx, first)
	second, err := Connect(ctx, config)
	if err != nil {
		return err
	}
	defer closeSoon(ctx, second)
	var pids [3]string
	for i, step := range []struct {
		conn *pgx.Conn
		sql  string
	}{
		{first, "SELECT pg_backend_pid()"},
		{second, "BEGIN; SELECT pg_backend_pid()"}, // keeps its server connection
		{first, "SELECT pg_backend_pid()"},
	} {
		if pids[i], err = backend(ctx, step.conn.PgConn(), step.sql); err != nil {
			return Explain("look for a pooler", &config.Config, err)
		}
		if i > 0 && (pids[1] == pids[0] || i == 2 && pids[2] != pids[0]) {
			return errPooled
		}
	}
	return nil
}

func backend(ctx context.Context, conn *pgconn.PgConn, sql string) (string, error) {
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return "", err
	}
	last := results[len(results)-1]
	if len(last.Rows) != 1 || len(last.Rows[0]) != 1 {
		return "", fmt.Errorf("%s: no answer", sql)
	}
	return string(last.Rows[0][0]), nil
}

func closeSoon(ctx context.Context, conn *pgx.Conn) {
	_ = conn.Close(context.WithoutCancel(ctx))
}
