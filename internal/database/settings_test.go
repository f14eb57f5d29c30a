package database

import (
	"context"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/internal/pgtest"
)

func settingsOf(t *testing.T, conn *pgx.Conn) map[string]string {
	t.Helper()
	got := make(map[string]string)
	for name := range pinned {
		got[name] = pgtest.Value[string](t, conn, "SELECT pg_catalog.current_setting($1)", name)
	}
	return got
}

// TestSettingsArePinned: a session of ours has the same settings, whatever the
// role, the database and the URL set.
func TestSettingsArePinned(t *testing.T) {
	db := migrated(t)
	if !slices.Equal(slices.Sorted(maps.Keys(pinned)), slices.Sorted(maps.Keys(pgtest.HostileSettings))) {
		t.Fatalf("pinned and hostile settings differ: %v, %v", slices.Sorted(maps.Keys(pinned)), slices.Sorted(maps.Keys(pgtest.HostileSettings)))
	}
	usual := settingsOf(t, connectAs(t, db.URL(Writer)))
	admin := pgtest.Connect(t, db.URL(""))
	for name, value := range pgtest.HostileSettings { // at the database, for everybody
		pgtest.Exec(t, admin, "ALTER DATABASE "+pgx.Identifier{db.Name}.Sanitize()+" SET "+name+" TO "+value)
	}
	db.SetHostile(t, Writer)
	parameters := url.Values{}
	for name, value := range pgtest.HostileSettings {
		parameters.Set(name, strings.Trim(value, "'"))
	}
	hostile := "&" + strings.ReplaceAll(parameters.Encode(), "+", "%20")
	for name, conn := range map[string]*pgx.Conn{
		"role": connectAs(t, db.URL(Writer)), "database": connectAs(t, db.URL(Auditor)), "url": connectAs(t, db.URL(Writer)+hostile),
		"options": connectAs(t, db.URL(Writer)+"&options="+"-c%20DateStyle%3DGerman%20--search-path%3Dpublic%20-cTimeZone%3DAsia/Tokyo"),
	} {
		for setting, got := range settingsOf(t, conn) {
			if got != usual[setting] {
				t.Errorf("%s: %s is %q, and usually %q", name, setting, got, usual[setting])
			}
		}
	}
	raw, err := pgx.Connect(t.Context(), db.URL(Writer))
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close(context.Background())
	for setting, want := range usual { // each is hostile indeed
		results, err := raw.PgConn().Exec(t.Context(), "SELECT current_setting('"+setting+"')").ReadAll()
		if err != nil || len(results) != 1 || string(results[0].Rows[0][0]) == want {
			t.Errorf("without pins %s is %v, %v", setting, results, err)
		}
	}
}

func connectAs(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	config, err := ParseConfig(url, "sallyport test")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := Connect(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// TestTriggersMustFire: a login or database whose triggers are off is refused,
// and the remedy named.
func TestTriggersMustFire(t *testing.T) {
	db := migrated(t)
	pgtest.Exec(t, pgtest.Connect(t, db.URL("")), "ALTER DATABASE "+pgx.Identifier{db.Name}.Sanitize()+" SET session_replication_role TO replica")
	config, err := ParseConfig(db.URL(Writer), "sallyport test")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Connect(t.Context(), config); err == nil || !strings.Contains(err.Error(), "RESET session_replication_role") {
		t.Errorf("%v", err)
	}
}

// TestKeywords: the keywords of libpq are accepted, have their meaning, or are
// named with what to do.
func TestKeywords(t *testing.T) {
	db := migrated(t)
	base := db.URL(Writer)
	for _, tt := range []struct{ add, want string }{
		{"keepalives=1&keepalives_idle=30&keepalives_interval=10&keepalives_count=3&tcp_user_timeout=30000", ""},
		{"gssencmode=disable&sslcompression=0&load_balance_hosts=random&fallback_application_name=x&client_encoding=LATIN1", ""},
		{"channel_binding=prefer&require_auth=none&sslmode=disable&connect_timeout=3&target_session_attrs=read-write", ""},
		{"ssl_min_protocol_version=TLSv1.2&ssl_max_protocol_version=TLSv1.3&pool_max_conns=3&default_query_exec_mode=simple_protocol", ""},
		{"options=-c%20statement_timeout%3D5000%20-c%20work_mem%3D8MB&DateStyle=German&jit=off", ""},
		{"gssencmode=require", "gssencmode=require, which is not supported"},
		{"sslcrl=/etc/crl.pem", "sslcrl, which is not supported: remove it"},
		{"requirepeer=postgres", "requirepeer"}, {"replication=database", "replication"}, {"sslkeylogfile=/x", "sslkeylogfile"},
		{"ssl_min_protocol_version=1.2", "want TLSv1.2"},
		{"options=-x", "want -c name=value"}, {"options=-c%20" + canary, "want -c name=value"},
		{"hostaddr=127.0.0.1", "hostaddr"},
		{"schema=public", `"schema"`}, {"connection_limit=5", `"connection_limit"`}, {"pgbouncer=true", `"pgbouncer"`}, {"statement_timeuot=5", `"statement_timeuot"`},
		{"a%20b=1", "cannot be parsed"}, {"a;b=1", "cannot be parsed"},
	} {
		config, err := ParseConfig(base+"&"+tt.add, "sallyport test")
		if err == nil {
			var conn *pgx.Conn
			if conn, err = Connect(t.Context(), config); err == nil {
				_ = conn.Close(t.Context())
			}
		}
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), canary)) {
			t.Errorf("%s: %v, want %q", tt.add, err, tt.want)
		}
		if tt.want == "" {
			pool, err := NewPool(t.Context(), base+"&"+tt.add, "sallyport test", 1)
			if err != nil {
				t.Errorf("pool: %s: %v", tt.add, err)
				continue
			}
			pool.Close()
		}
	}
	for _, wrong := range []struct{ url, want string }{
		{"postgres//foo", "cannot be parsed"}, {"jdbc:postgresql://db/x", "jdbc:postgresql://, and must begin with postgres://"},
		{"postgresql+psycopg://db/x", "must begin with"}, {"mysql://db/x", "must begin with"}, {"Postgres://db/x", "cannot be parsed"},
		{"postgres://db/x\npostgres://db/y", "more than one line"}, {canary + "://db", "cannot be parsed"},
	} {
		if _, err := ParseConfig(wrong.url, "x"); err == nil || !strings.Contains(err.Error(), wrong.want) || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %v, want %q", wrong.url, err, wrong.want)
		}
	}
}

// TestHostAddress: the name of the host is for its certificate alone.
func TestHostAddress(t *testing.T) {
	config, err := ParseConfig("postgres://w@db.invalid:1,other.invalid:2/log?hostaddr=127.0.0.1,127.0.0.2&sslmode=verify-full", "x")
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]string{"db.invalid": "127.0.0.1", "other.invalid": "127.0.0.2"} {
		if got, err := config.LookupFunc(t.Context(), host); err != nil || !slices.Equal(got, []string{want}) {
			t.Errorf("%s: %v, %v", host, got, err)
		}
	}
	if config.TLSConfig.ServerName != "db.invalid" {
		t.Errorf("the certificate is for %q", config.TLSConfig.ServerName)
	}
}

// TestReadOnlySessionsEnd: the error that the server is read-only ends the
// session, and a pool gives out none to a server that became so.
func TestReadOnlySessionsEnd(t *testing.T) {
	db := migrated(t)
	conn := connectAs(t, db.URL(Writer)+"&default_transaction_read_only=on")
	_, err := conn.Exec(t.Context(), "CREATE TABLE pg_temp.x ()")
	if err == nil {
		_, err = conn.Exec(t.Context(), "INSERT INTO identity.revocations (step_uuid, until, revoked_by, reason) VALUES (gen_random_uuid(), 'infinity', 'x', '')")
	}
	if !IsReadOnly(err) || !conn.IsClosed() {
		t.Errorf("%v, closed %t", err, conn.IsClosed())
	}
	pool, err := NewPool(t.Context(), db.URL(Writer), "sallyport test", 1)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	use := func(sql string) (pid int) {
		t.Helper()
		c, err := pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Release()
		if err := c.QueryRow(t.Context(), "SELECT pg_backend_pid()").Scan(&pid); err != nil {
			t.Fatal(err)
		}
		pgtest.Exec(t, c.Conn(), sql)
		c.Conn().PgConn().CustomData()[checkedAt] = time.Now().Add(-time.Hour)
		return pid
	}
	first := use("SELECT 1")
	second := use("SET default_transaction_read_only = on")
	third := use("SELECT 1")
	if first != second || second == third {
		t.Errorf("sessions %d, %d, %d: want the same, and then another", first, second, third)
	}
}
