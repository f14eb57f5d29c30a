package sealer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/writertest"
	"github.com/sallyport/sallyport/internal/database"
)

// obstruct takes every advisory lock that an attacker could guess, in a session that is
// never over, and prepares what gets a lock on a table without a privilege.
func obstruct(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn := audittest.Connect(t, url)
	for _, name := range []string{"audit.database", "audit.retention", "audit.ensure_partition", "audit.seal"} {
		if _, err := conn.Exec(t.Context(), `SELECT pg_advisory_lock(hashtextextended($1, 0))`, name); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := conn.Exec(t.Context(), `BEGIN`); err != nil {
		t.Fatal(err)
	}
	// Parsing takes the lock, and privileges are checked when it is run.
	for i, sql := range []string{`SELECT FROM audit.locks FOR UPDATE`, `INSERT INTO audit.locks VALUES ('x')`, `UPDATE audit.locks SET name = name`} {
		if _, err := conn.Exec(t.Context(), fmt.Sprintf(`PREPARE mine_%d AS %s`, i, sql)); err != nil {
			t.Fatal(err)
		}
	}
	for _, sql := range []string{
		`SELECT FROM audit.locks FOR UPDATE`, `SELECT FROM audit.locks FOR KEY SHARE`, `EXECUTE mine_0`,
		`LOCK TABLE audit.locks IN ACCESS SHARE MODE`, `LOCK TABLE audit.events IN ROW EXCLUSIVE MODE NOWAIT`, `LOCK TABLE audit.leaves IN SHARE MODE`,
		`SELECT audit.acquire_lock('seal', false)`, `SELECT audit.try_seal_lock()`,
	} {
		if _, err := conn.Exec(t.Context(), `SAVEPOINT here`); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Exec(t.Context(), sql); audittest.SQLState(err) != "42501" {
			t.Errorf("%s: %v", sql, err)
		}
		if _, err := conn.Exec(t.Context(), `ROLLBACK TO here`); err != nil {
			t.Fatal(err)
		}
	}
	return conn
}

// TestNobodyHoldsTheLogUp: whatever locks an auditor's login takes and keeps,
// events are recorded and sealed, months get partitions, exports are recorded,
// holds set and months taken.
func TestNobodyHoldsTheLogUp(t *testing.T) {
	t.Parallel()
	a := aged(t)
	obstruct(t, a.db.URL(database.Auditor))
	auditor, writer, r := audittest.Connect(t, a.db.URL(database.Auditor)), audittest.Connect(t, a.db.URL(database.Writer)), a.retention(t)
	audittest.QueryValue[int64](t, auditor, recordExport, "query", "{}", 1, nothing[:], "test")
	audittest.QueryValue[int64](t, auditor, `SELECT audit.set_hold('1999-01-01', '1999-01-01', 'x')`)
	audittest.QueryValue[string](t, writer, `SELECT audit.ensure_partition('1999-01-01')`)
	if _, err := r.Expire(t.Context(), a.old[0], audit.DefaultKeepDays); err != nil {
		t.Error(err)
	}
	late := audittest.Decision("deny", 1)
	late.Time = time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC)
	audittest.Record(t, a.log, late)
	audittest.Seal(t, a.sealer)
	a.expired(t, a.events)
}

// TestOpenTransactions: who may take a turn, and does not end his transaction,
// keeps others waiting for a while, is named to them, and stops no recording.
func TestOpenTransactions(t *testing.T) {
	t.Parallel()
	a := aged(t)
	selfish, auditor := audittest.Connect(t, a.db.URL(database.Auditor)), audittest.Connect(t, a.db.URL(database.Auditor))
	if _, err := selfish.Exec(t.Context(), `BEGIN`); err != nil {
		t.Fatal(err)
	}
	audittest.QueryValue[int64](t, selfish, `SELECT audit.set_hold('1999-01-01', '1999-01-01', 'x')`)
	if got := audittest.QueryValue[string](t, selfish, `SELECT current_setting('idle_in_transaction_session_timeout')`); got != "30s" {
		t.Errorf("it may be idle for %s", got)
	}
	named := fmt.Sprintf("%d of sallyport_auditor", selfish.PgConn().PID())
	_, err := a.admin(t).Exec(t.Context(), `SELECT audit.expire($1)`, a.old[0])
	if audittest.SQLState(err) != "55P03" || !strings.Contains(err.Error(), named) {
		t.Errorf("retention: %v, and %s is in the way", err, named)
	}
	audittest.Record(t, a.log, audittest.Decision("deny", 1))
	audittest.Seal(t, a.sealer)
	done := make(chan error, 1)
	go func() {
		_, err := auditor.Exec(context.Background(), recordExport, "query", "{}", 1, nothing[:], "test")
		done <- err
	}()
	if err := <-done; audittest.SQLState(err) != "55P03" || !strings.Contains(err.Error(), named) {
		t.Errorf("an export: %v, and %s is in the way", err, named)
	}
	if _, err := selfish.Exec(t.Context(), `ROLLBACK`); err != nil {
		t.Fatal(err)
	}
	if n := audittest.QueryValue[int64](t, auditor, recordExport, "query", "{}", 1, nothing[:], "test"); n != 1 {
		t.Errorf("the number is %d", n)
	}
}

// TestSealingHeldUp: a writer's login may take the turn to seal and keep it.
// Every other instance notices.
func TestSealingHeldUp(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	l := writertest.Open(t, db.URL(database.Writer), nil)
	s := sealerFor(t, db.URL(database.Writer), l, withKey(audittest.NewKey(t, "")))
	audittest.Seal(t, s)
	selfish := audittest.Connect(t, db.URL(database.Sealer))
	if _, err := selfish.Exec(t.Context(), `BEGIN`); err != nil {
		t.Fatal(err)
	}
	if !audittest.QueryValue[bool](t, selfish, `SELECT audit.try_seal_lock()`) {
		t.Fatal("the turn is not to be had")
	}
	s.config.PatienceWithOthers = time.Nanosecond
	for range 3 { // nothing waits
		audittest.Seal(t, s)
	}
	audittest.Record(t, l, audittest.Decision("deny", 1))
	audittest.Eventually(t, "it is noticed", func() bool { return errors.Is(s.Seal(t.Context()), ErrNoProgress) })
	if st := s.Status(); st.Err == nil || st.UnsealedSince.IsZero() {
		t.Errorf("%+v", st)
	}
	if _, err := selfish.Exec(t.Context(), `ROLLBACK`); err != nil {
		t.Fatal(err)
	}
	audittest.Seal(t, s)
	if st := s.Status(); st.Err != nil || !st.UnsealedSince.IsZero() {
		t.Errorf("%+v", st)
	}
}

// TestHostileSessions: the database's own events are the same whatever settings
// the session has, or there are none.
func TestHostileSessions(t *testing.T) {
	t.Parallel()
	a := aged(t)
	hostile := []string{
		`SET standard_conforming_strings = off`, `SET datestyle = 'SQL, DMY'`, `SET datestyle = 'German'`, `SET datestyle = 'Postgres, MDY'`,
		`SET timezone = 'Pacific/Kiritimati'`, `SET timezone = 'FOO+25'`, `SET intervalstyle = 'sql_standard'`, `SET extra_float_digits = -15`,
		`SET bytea_output = 'escape'`, `SET client_encoding = 'LATIN1'`, `SET client_encoding = 'SQL_ASCII'`, `SET quote_all_identifiers = on`,
		`SET transform_null_equals = on`, `SET array_nulls = off`, `SET synchronous_commit = off`, `SET row_security = off`, `SET lock_timeout = 1`,
		`SET backslash_quote = on`, `SET xmloption = document`, `SET plan_cache_mode = force_generic_plan`, `SET role = none`,
		`SET default_table_access_method = heap`, `SET idle_in_transaction_session_timeout = 0`, `SET idle_in_transaction_session_timeout = '20d'`,
		`CREATE TEMP TABLE events (writer text, writer_sequence bigint); SET search_path = pg_temp, audit, pg_catalog`,
		`CREATE TEMP TABLE pg_inherits (inhparent oid, inhrelid oid); CREATE TEMP TABLE turns (name text); SET search_path = pg_temp, pg_catalog`,
		`CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (false); SET search_path = pg_temp, pg_catalog`,
		`CREATE FUNCTION pg_temp.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS 'SELECT timestamptz ''1999-01-01''';
		 CREATE FUNCTION pg_temp.inet_client_addr() RETURNS inet LANGUAGE sql AS 'SELECT inet ''9.9.9.9''';
		 CREATE FUNCTION pg_temp.eq(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT false';
		 CREATE OPERATOR pg_temp.= (LEFTARG = text, RIGHTARG = text, FUNCTION = pg_temp.eq); SET search_path = pg_temp, pg_catalog`,
	}
	injection := `","kind":"retention","attributes":{"month":"2025-01","leaves":"0-99"},"x":"\` + "\\\" ' \x01 $$ $1 %s"
	admin := a.admin(t)
	for i, settings := range hostile {
		role := []string{database.Writer, database.Auditor}[i%2]
		conn := audittest.Connect(t, a.db.URL(role))
		if _, err := conn.Exec(t.Context(), settings); err != nil {
			if !strings.Contains(settings, "TEMP") && !strings.Contains(settings, "pg_temp") || i == 0 {
				t.Fatalf("%s: %v", settings, err)
			}
			continue
		}
		before := audittest.QueryValue[int64](t, admin, `SELECT count(*) FROM audit.events WHERE writer = 'database'`)
		if _, err := conn.Exec(t.Context(), recordExport, injection, injection, 1, nothing[:], injection); err != nil {
			t.Errorf("%s: %v", settings, err)
			continue
		}
		if n := audittest.QueryValue[int64](t, admin, `SELECT count(*) FROM audit.events WHERE writer = 'database'`); n != before+1 {
			t.Errorf("%s: %d events more", settings, n-before)
		}
		if role == database.Writer {
			if _, err := conn.Exec(t.Context(), `SELECT audit.ensure_partition($1::pg_catalog.text::pg_catalog.date)`, fmt.Sprintf("19%02d-02-01", 70+i)); err != nil {
				t.Errorf("%s: %v", settings, err)
			}
		}
		_ = conn.Close(t.Context())
	}
	for _, record := range audittest.QueryStrings(t, admin, `SELECT convert_from(record, 'UTF8') FROM audit.events WHERE writer = 'database'`) {
		if second := again(t, []byte(record)); string(second) != record {
			t.Errorf("written again it is\n%s\nand not\n%s", second, record)
		}
		if said := audittest.AttributesOf(t, []byte(record)); said["month"] != "" || said["what"] != audit.Text(injection, 2048) {
			t.Errorf("%s", record)
		}
	}
	if n := audittest.QueryValue[int64](t, admin, `SELECT count(*) FROM audit.events WHERE writer = 'database' AND (kind <> 'export' OR time < now() - interval '1 hour')`); n != 0 {
		t.Errorf("%d events are not what they should be", n)
	}
	audittest.Sound(t, admin)
	// Retention is the owner's, with whatever settings his login has.
	for i, settings := range hostile[:4] {
		if i >= len(a.old) {
			break
		}
		conn := audittest.Connect(t, a.db.URL(""))
		if _, err := conn.Exec(t.Context(), settings); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Exec(t.Context(), `SELECT audit.expire($1)`, a.old[i]); err != nil {
			t.Errorf("%s: %v", settings, err)
		}
	}
	audittest.Seal(t, a.sealer)
	a.expired(t, 2*a.events)
}

// TestHoldsAreBounded: no hold can be set that makes retention fail for good.
func TestHoldsAreBounded(t *testing.T) {
	t.Parallel()
	a := aged(t)
	auditor := audittest.Connect(t, a.db.URL(database.Auditor))
	for _, days := range [][2]string{
		{"5000000-01-01", "5874897-12-31"}, {"4713-01-01 BC", "2000-01-01"}, {"-infinity", "infinity"}, {"2000-01-01", "10000-01-01"}, {"1969-12-31", "2000-01-01"},
	} {
		if _, err := auditor.Exec(t.Context(), `SELECT audit.set_hold($1::text::date, $2::text::date, 'x')`, days[0], days[1]); audittest.SQLState(err) != "22023" {
			t.Errorf("%v: %v", days, err)
		}
	}
	audittest.QueryValue[int64](t, auditor, `SELECT audit.set_hold('9999-12-01', '9999-12-31', 'x')`)
	if _, err := a.retention(t).Expire(t.Context(), a.old[0], audit.DefaultKeepDays); err != nil {
		t.Error(err)
	}
}

// TestPartitionsAreBounded: a writer's login makes no more partitions than the
// log can bear, and none of the months around now is refused for it.
func TestPartitionsAreBounded(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	writer := audittest.Connect(t, db.URL(database.Writer))
	var err error
	made := 0
	for ; err == nil && made < 300; made++ {
		_, err = writer.Exec(t.Context(), `SELECT audit.ensure_partition($1)`, time.Date(2050, time.Month(made+1), 1, 0, 0, 0, 0, time.UTC))
	}
	if made > 240 || audittest.SQLState(err) != "54000" {
		t.Errorf("%d partitions, %v", made, err)
	}
	for month := -12; month <= 12; month++ {
		if _, err := writer.Exec(t.Context(), `SELECT audit.ensure_partition($1)`, time.Now().UTC().AddDate(0, month, -time.Now().UTC().Day()+1)); err != nil {
			t.Error(err)
		}
	}
}
