package pgtest

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// HostileSettings are settings that a role or database may have, as SQL. Each
// changes what SQL means, what values look like as text, or when a session ends.
var HostileSettings = map[string]string{
	"search_path":                    `"$user", public`,
	"client_encoding":                "'LATIN1'",
	"datestyle":                      "'German, DMY'",
	"intervalstyle":                  "'sql_standard'",
	"timezone":                       "'Pacific/Apia'",
	"bytea_output":                   "'escape'",
	"extra_float_digits":             "-15",
	"lc_monetary":                    "'C.UTF-8'",
	"lc_numeric":                     "'C.UTF-8'",
	"lc_time":                        "'C.UTF-8'",
	"quote_all_identifiers":          "on",
	"standard_conforming_strings":    "off",
	"backslash_quote":                "on",
	"array_nulls":                    "off",
	"transform_null_equals":          "on",
	"gin_fuzzy_search_limit":         "1",
	"plpgsql.extra_errors":           "'all'",
	"default_transaction_isolation":  "'serializable'",
	"default_transaction_deferrable": "on",
	"exit_on_error":                  "on",
	"lock_timeout":                   "1",
	// Long enough for a busy machine between connecting and pinning.
	"idle_session_timeout": "3000",
}

// SetHostile gives these roles, in this database alone, [HostileSettings]. They
// apply to sessions that begin afterwards.
func (db *DB) SetHostile(t testing.TB, roles ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, db.URL(""))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	var sql strings.Builder
	for _, role := range roles {
		for name, value := range HostileSettings {
			fmt.Fprintf(&sql, "ALTER ROLE %s IN DATABASE %s SET %s TO %s;", quote(role), quote(db.Name), name, value)
		}
	}
	if _, err := conn.PgConn().Exec(ctx, sql.String()).ReadAll(); err != nil {
		t.Fatal(err)
	}
}
