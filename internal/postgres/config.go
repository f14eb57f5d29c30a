// Package postgres is how Sallyport reaches its database: connections with our
// name and limits on them, the roles, the schema's version, and errors that say
// what to do. No error of this package holds a password or a database URL.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// The limits of a connection. The connect timeout is per address of the host.
const (
	connectTimeout   = 5 * time.Second
	statementTimeout = 30 * time.Second
	idleTransaction  = 30 * time.Second
)

// errURL says nothing of the URL: a password with a character that should have
// been escaped makes the rest of it look like a host or a port.
var errURL = errors.New("the database URL cannot be parsed; it looks like " +
	"postgres://user:password@host:5432/database?sslmode=verify-full, " +
	"with : / ? # @ % and spaces in the password percent-encoded, and the files that it names must be readable")

// ParseConfig reads a database URL (or libpq's key=value form) into a
// configuration whose connections carry application as their
// application_name. What the URL says wins over the defaults; TLS is the URL's
// sslmode.
func ParseConfig(url, application string) (*pgx.ConnConfig, error) {
	if strings.TrimSpace(url) == "" {
		return nil, errors.New("the database URL is empty")
	}
	config, err := pgx.ParseConfig(strings.TrimSpace(url))
	if err != nil {
		return nil, errURL
	}
	settle(&config.Config, application)
	return config, nil
}

func settle(config *pgconn.Config, application string) {
	if config.ConnectTimeout == 0 || config.ConnectTimeout > 2*time.Minute {
		config.ConnectTimeout = connectTimeout
	}
	if _, set := config.RuntimeParams["application_name"]; !set {
		config.RuntimeParams["application_name"] = application
	}
	// Nobody else's function or operator is called in our name: where PUBLIC may
	// create in the schema public (PostgreSQL before 15), one there could fit a call
	// better than the system's own (CVE-2018-1058). What is ours is called by its
	// schema.
	delete(config.RuntimeParams, "search_path")
	settings := map[string]string{"search_path": "pg_catalog, pg_temp"}
	for name, value := range map[string]string{
		"timezone":                            "'UTC'",
		"statement_timeout":                   milliseconds(statementTimeout),
		"idle_in_transaction_session_timeout": milliseconds(idleTransaction),
	} {
		if _, set := config.RuntimeParams[name]; !set {
			settings[name] = value
		}
	}
	Set(config, settings)
}

// Set makes connections of this configuration begin with these settings,
// whatever the URL says. They are set once the session is there: PgBouncer
// refuses most of them as startup parameters, or drops them.
func Set(config *pgconn.Config, settings map[string]string) {
	var sql strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		delete(config.RuntimeParams, name)
		fmt.Fprintf(&sql, "SET SESSION %s = %s;", name, settings[name])
	}
	before := config.AfterConnect
	config.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		if before != nil {
			if err := before(ctx, conn); err != nil {
				return err
			}
		}
		if _, err := conn.Exec(ctx, sql.String()).ReadAll(); err != nil {
			return fmt.Errorf("set the session's parameters: %w", err)
		}
		return nil
	}
}

func milliseconds(d time.Duration) string { return fmt.Sprint(d.Milliseconds()) }

// Connect opens one connection. Its error says what to do.
func Connect(ctx context.Context, config *pgx.ConnConfig) (*pgx.Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, Explain("connect", &config.Config, err)
	}
	return conn, nil
}

// NewPool opens a pool of at most size connections (zero: pgx's own choice),
// and one of them at once, so that a wrong URL shows here.
func NewPool(ctx context.Context, url, application string, size int) (*pgxpool.Pool, error) {
	if strings.TrimSpace(url) == "" {
		return nil, errors.New("the database URL is empty")
	}
	config, err := pgxpool.ParseConfig(strings.TrimSpace(url))
	if err != nil {
		return nil, errURL
	}
	settle(&config.ConnConfig.Config, application)
	if size > 0 {
		config.MaxConns = int32(min(size, 1000))
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, Explain("open pool", &config.ConnConfig.Config, err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, Explain("connect", &config.ConnConfig.Config, err)
	}
	return pool, nil
}

// Durable makes a session's commits wait until they are on disk, whatever the
// server, the database, the role or the URL says; where the server waits for
// more than that (remote_apply), it stays so.
//
// PostgreSQL documentation, "synchronous_commit".
func Durable(ctx context.Context, conn *pgconn.PgConn) error {
	// Session settings, and not startup parameters: those are not passed on by
	// every connection pooler.
	results, err := conn.Exec(ctx, `SELECT set_config('synchronous_commit',
		CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false)`).ReadAll()
	if err != nil {
		return fmt.Errorf("set synchronous_commit: %w", err)
	}
	if len(results) != 1 || len(results[0].Rows) != 1 {
		return errors.New("set synchronous_commit: no answer")
	}
	switch got := string(results[0].Rows[0][0]); got {
	case "on", "remote_apply":
		return nil
	default:
		return fmt.Errorf("set synchronous_commit: it stayed %q", got)
	}
}
