package database

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// pinned are the settings of every session of ours. The server, the database and
// the role may set others (ALTER ROLE … SET), and so may the database URL: what
// Sallyport writes and reads must depend on none of them. They are set after
// connecting: PgBouncer refuses most of them as startup parameters, or drops them.
//
// PostgreSQL documentation, "Client Connection Defaults" and "Version and
// Platform Compatibility".
var pinned = map[string]string{
	// No other role's function or operator is called in our name: where PUBLIC may
	// create in the schema public (PostgreSQL before 15), one there could fit a call
	// better than the system's own (CVE-2018-1058). Ours are called by their schema.
	"search_path": "pg_catalog, pg_temp",
	// The form of values as text.
	"client_encoding":       "'UTF8'",
	"datestyle":             "'ISO, MDY'",
	"intervalstyle":         "'postgres'",
	"timezone":              "'UTC'",
	"bytea_output":          "'hex'",
	"extra_float_digits":    "1",
	"lc_monetary":           "'C'",
	"lc_numeric":            "'C'",
	"lc_time":               "'C'",
	"quote_all_identifiers": "off",
	// The meaning of SQL.
	"standard_conforming_strings": "on",
	"backslash_quote":             "'safe_encoding'",
	"array_nulls":                 "on",
	"transform_null_equals":       "off",
	"gin_fuzzy_search_limit":      "0",
	"plpgsql.extra_errors":        "'none'",
	// Transactions, and when a session ends.
	"default_transaction_isolation":  "'read committed'",
	"default_transaction_deferrable": "off",
	"exit_on_error":                  "off",
	"lock_timeout":                   "0",
	"idle_session_timeout":           "0",
}

// bounded are the settings that the database URL may set otherwise.
var bounded = map[string]string{
	"statement_timeout":                   milliseconds(statementTimeout),
	"idle_in_transaction_session_timeout": milliseconds(idleTransaction),
	// The server notices within a minute that a machine of ours is gone.
	"tcp_keepalives_idle":     "30",
	"tcp_keepalives_interval": "10",
	"tcp_keepalives_count":    "3",
}

// pin makes connections of this configuration begin with the settings of ours,
// and then with those of the database URL that are not ours.
func pin(config *pgconn.Config) {
	settings := maps.Clone(pinned)
	maps.Copy(settings, bounded)
	for name, value := range config.RuntimeParams {
		if name == "application_name" {
			continue // PgBouncer passes it on
		}
		if _, ours := pinned[strings.ToLower(name)]; !ours {
			settings[strings.ToLower(name)] = literal(value)
		}
		delete(config.RuntimeParams, name)
	}
	// Also here, so that an error in a role's settings, such as one that this
	// version of the server does not know, does not come in another encoding.
	Set(config, settings)
	config.AfterConnect = afterwards(config.AfterConnect, checkSession)
}

// Set makes connections of this configuration begin with these settings,
// whatever the URL contains. The values are SQL: 'text', on, 5000.
func Set(config *pgconn.Config, settings map[string]string) {
	var sql strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		delete(config.RuntimeParams, name)
		fmt.Fprintf(&sql, "SET SESSION %s = %s;", name, settings[name])
	}
	config.AfterConnect = afterwards(config.AfterConnect, func(ctx context.Context, conn *pgconn.PgConn) error {
		if _, err := conn.Exec(ctx, sql.String()).ReadAll(); err != nil {
			return fmt.Errorf("set the session's parameters: %w", err)
		}
		return nil
	})
}

func afterwards(before, then pgconn.AfterConnectFunc) pgconn.AfterConnectFunc {
	if before == nil {
		return then
	}
	return func(ctx context.Context, conn *pgconn.PgConn) error {
		if err := before(ctx, conn); err != nil {
			return err
		}
		return then(ctx, conn)
	}
}

// checkSession refuses a session in which triggers do not fire: those of the
// audit log keep events from being changed. Only a superuser can set it, for a
// role or database, and only a superuser can set it back.
func checkSession(ctx context.Context, conn *pgconn.PgConn) error {
	sql := "SELECT pg_catalog.current_setting('session_replication_role')"
	if major(conn) >= 17 { // the setting is as old as that
		sql = "SET SESSION transaction_timeout = 0;" + sql
	}
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return fmt.Errorf("read the session's parameters: %w", err)
	}
	last := results[len(results)-1]
	if len(last.Rows) != 1 {
		return errors.New("read the session's parameters: no answer")
	}
	if got := string(last.Rows[0][0]); got != "origin" {
		return fmt.Errorf("session_replication_role is %q for this login or database, so that triggers do not fire: "+
			"find it with \\drds in psql and remove it with ALTER ROLE … RESET session_replication_role (or ALTER DATABASE, or in postgresql.conf)", got)
	}
	return nil
}

// major is the server's major version; zero where a pooler does not report it.
func major(conn *pgconn.PgConn) int {
	text := conn.ParameterStatus("server_version")
	if end := strings.IndexFunc(text, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
		text = text[:end]
	}
	n, _ := strconv.Atoi(text)
	return n
}

// literal is a text as an SQL constant, whatever standard_conforming_strings is.
func literal(text string) string {
	quoted := "'" + strings.ReplaceAll(text, "'", "''") + "'"
	if strings.Contains(text, `\`) {
		return "E" + strings.ReplaceAll(quoted, `\`, `\\`)
	}
	return quoted
}
