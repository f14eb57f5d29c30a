// Package database connects to PostgreSQL: connections with our name and limits on
// them, the roles, the schema's version, and errors with what to do. No error
// of this package holds a password or a database URL.
package database

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// The limits of a connection. The connect timeout is per address of the host; it is
// shorter where the URL names several, so that a server that hangs does not keep
// the next from being tried in time.
const (
	connectTimeout   = 5 * time.Second
	eachTimeout      = 2 * time.Second
	statementTimeout = 30 * time.Second
	idleTransaction  = 30 * time.Second
)

// errURL contains nothing of the URL: after an unescaped character in a password, the
// rest of the password looks like a host or a port.
var errURL = errors.New("the database URL cannot be parsed; it looks like " +
	"postgres://user:password@host:5432/database?sslmode=verify-full, " +
	"with : / ? # @ % and spaces in the password percent-encoded, and the files that it names must be readable")

// ParseConfig reads a database URL (or libpq's key=value form) into a
// configuration whose connections carry application as their
// application_name. Its error is a [URLError]. The URL's TLS is its sslmode; [bounded] are the settings
// that it may change, and it may add others that the server knows.
func ParseConfig(url, application string) (*pgx.ConnConfig, error) {
	url, err := checkURL(url)
	if err != nil {
		return nil, &URLError{err}
	}
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, &URLError{errURL}
	}
	if err := settle(config, application); err != nil {
		return nil, &URLError{err}
	}
	return config, nil
}

// URLError is a database URL that is not valid, or not supported. Its text holds no
// part of the URL that may be secret.
type URLError struct{ err error }

func (e *URLError) Error() string { return e.err.Error() }
func (e *URLError) Unwrap() error { return e.err }

// otherScheme is a scheme that is not PostgreSQL's, and cannot be a password.
var otherScheme = regexp.MustCompile(`^[a-z][a-z0-9+]{1,20}(:[a-z]{2,12})?$`)

// checkURL refuses what pgx would misread.
func checkURL(url string) (string, error) {
	url = strings.TrimSpace(url)
	switch before, _, found := strings.Cut(url, "://"); {
	case url == "":
		return "", errors.New("the database URL is empty")
	case strings.ContainsAny(url, "\n\r\x00"):
		return "", errors.New("the database URL has more than one line: its file holds the URL and nothing else")
	case found && before != "postgres" && before != "postgresql" && otherScheme.MatchString(before):
		return "", fmt.Errorf("the database URL begins with %s://, and must begin with postgres://", before)
	}
	return url, nil
}

func settle(config *pgx.ConnConfig, application string) error {
	if config.ConnectTimeout == 0 || config.ConnectTimeout > 2*time.Minute {
		config.ConnectTimeout = connectTimeout
		if len(Hosts(&config.Config)) > 1 {
			config.ConnectTimeout = eachTimeout
		}
	}
	// Sessions are found by it, whatever the URL or PGAPPNAME contains.
	config.RuntimeParams["application_name"] = application
	// A URL of another program may ask for the simple protocol, whose values are text.
	config.DefaultQueryExecMode = pgx.QueryExecModeCacheStatement
	if err := translate(&config.Config); err != nil {
		return err
	}
	pin(&config.Config)
	dropReadOnly(&config.Config)
	return nil
}

func milliseconds(d time.Duration) string { return fmt.Sprint(d.Milliseconds()) }

// Connect opens one connection. Its error contains what to do.
func Connect(ctx context.Context, config *pgx.ConnConfig) (*pgx.Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, Explain("connect", &config.Config, err)
	}
	return conn, nil
}

// NewPool opens a pool of at most size connections (zero: pgx's own choice),
// and one of them at once, so that a wrong URL shows here. A connection to a
// server that has become read-only is not given out: see [CheckWritable].
func NewPool(ctx context.Context, url, application string, size int) (*pgxpool.Pool, error) {
	url, err := checkURL(url)
	if err != nil {
		return nil, &URLError{err}
	}
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, &URLError{errURL}
	}
	if err := settle(config.ConnConfig, application); err != nil {
		return nil, &URLError{err}
	}
	if size > 0 {
		config.MaxConns = int32(min(size, 1000))
	}
	config.MinConns = 1 // it is found by its name, and there when it is needed
	var pool *pgxpool.Pool
	config.PrepareConn = func(ctx context.Context, conn *pgx.Conn) (bool, error) {
		current := isCurrent(ctx, conn)
		if !current {
			pool.Reset() // the others of this pool lead there too
		}
		return current, nil
	}
	config.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false } // isCurrent does
	if pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, Explain("open pool", &config.ConnConfig.Config, err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, Explain("connect", &config.ConnConfig.Config, err)
	}
	return pool, nil
}

// Durable makes a session's commits wait until they are on disk, whatever the
// server, the database, the role or the URL sets; a stricter setting of the server
// (remote_apply) stays.
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
