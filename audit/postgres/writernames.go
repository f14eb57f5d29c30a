package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/internal/database"
)

// newestStarted bounds the first events of writers that one query reads.
const newestStarted = 500

const (
	liveSQL = `SELECT DISTINCT substr(application_name, 17) FROM pg_stat_activity
		WHERE datname = current_database() AND application_name LIKE 'sallyport audit _%' AND pg_has_role(usesysid, '` + database.Writer + `', 'MEMBER') LIMIT 10000`
	startedSQL = `SELECT writer FROM audit.events WHERE kind = 'writer_started' AND time BETWEEN now() - interval '25 hours' AND now() + interval '1 minute' ORDER BY time DESC LIMIT $1`
)

// liveWriters returns the names of the writers that have a session of a login that may
// write. The server's limit of connections bounds them.
func liveWriters(ctx context.Context, tx pgx.Tx) ([]string, error) {
	return readNames(ctx, tx, liveSQL)
}

// startedWriters returns the names of the writers that started last, the latest first,
// so that a short run is found soon.
func startedWriters(ctx context.Context, tx pgx.Tx) ([]string, error) {
	return readNames(ctx, tx, startedSQL, newestStarted)
}

func readNames(ctx context.Context, tx pgx.Tx, sql string, args ...any) ([]string, error) {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("look for writers: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("look for writers: %w", err)
	}
	return names, nil
}
