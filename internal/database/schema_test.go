package database

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/internal/pgtest"
)

const insertEvent = `INSERT INTO audit.events (time, kind, writer, writer_sequence, record) VALUES ($1, 'admin', '` + writerW + `', $2, '{}')`

// tables lists the log's tables and partitions, each with a column of it.
func tables(t *testing.T, conn *pgx.Conn) map[string]string {
	t.Helper()
	rows, err := conn.Query(t.Context(), `SELECT c.oid::regclass::text, min(a.attname::text) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		WHERE c.relnamespace = 'audit'::regnamespace AND c.relkind IN ('r', 'p') GROUP BY c.oid`)
	if err != nil {
		t.Fatal(err)
	}
	list := make(map[string]string)
	var table, column string
	if _, err := pgx.ForEachRow(rows, []any{&table, &column}, func() error { list[table] = column; return nil }); err != nil {
		t.Fatal(err)
	}
	return list
}

// names runs a query whose rows are what is wrong.
func names(t *testing.T, conn *pgx.Conn, sql string) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), sql)
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestEveryTableIsGuarded reads the catalogue, so that no table, view or function
// can come to the log without its guards. A trigger's type is a sum: 1 for each
// row, 2 before, 8 DELETE, 16 UPDATE, 32 TRUNCATE (PostgreSQL's pg_trigger.h).
func TestEveryTableIsGuarded(t *testing.T) {
	db := migrated(t)
	conn := pgtest.Connect(t, db.URL(""))
	pgtest.Exec(t, conn, "SELECT audit.ensure_partition('2020-02-01')")
	const unguarded = `SELECT c.oid::regclass::text FROM pg_class c WHERE c.relnamespace = 'audit'::regnamespace AND c.relkind IN ('r', 'p') AND (
		NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgfoid = 'audit.refuse_change()'::regprocedure AND t.tgtype = 2+8+16+32 AND t.tgenabled = 'A')
		OR NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgfoid = 'audit.refuse_change()'::regprocedure AND t.tgtype = 1+2+8+16 AND t.tgenabled = 'A'))`
	for what, sql := range map[string]string{
		"without triggers that refuse every change": unguarded,
		"not the owner's": `SELECT c.oid::regclass::text FROM pg_class c WHERE c.relnamespace = 'audit'::regnamespace AND pg_get_userbyid(c.relowner) <> 'sallyport_owner'
			UNION ALL SELECT p.oid::regprocedure::text FROM pg_proc p WHERE p.pronamespace = 'audit'::regnamespace AND pg_get_userbyid(p.proowner) <> 'sallyport_owner'`,
		"with a privilege that changes or takes away": `SELECT c.oid::regclass || ': ' || a.privilege_type || ' for ' || a.grantee::regrole
			FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a
			WHERE c.relnamespace = 'audit'::regnamespace AND a.grantee <> c.relowner AND a.privilege_type NOT IN ('SELECT', 'INSERT')
			UNION ALL SELECT c.oid::regclass || '.' || t.attname || ': ' || a.privilege_type || ' for ' || a.grantee::regrole
			FROM pg_class c JOIN pg_attribute t ON t.attrelid = c.oid CROSS JOIN LATERAL aclexplode(t.attacl) a
			WHERE c.relnamespace = 'audit'::regnamespace AND a.privilege_type NOT IN ('SELECT', 'INSERT')`,
		"that an auditor adds to": `SELECT c.oid::regclass::text FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a
			WHERE c.relnamespace = 'audit'::regnamespace AND a.grantee = 'sallyport_auditor'::regrole AND a.privilege_type <> 'SELECT'`,
		"open to everybody": `SELECT c.oid::regclass::text FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a WHERE c.relnamespace = 'audit'::regnamespace AND a.grantee = 0
			UNION ALL SELECT p.oid::regprocedure::text FROM pg_proc p CROSS JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
			WHERE p.pronamespace = 'audit'::regnamespace AND a.grantee = 0`,
		"run as their owner without a search path of their own": `SELECT p.oid::regprocedure::text FROM pg_proc p WHERE p.pronamespace = 'audit'::regnamespace AND p.prosecdef
			AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (p.proconfig), false)`,
	} {
		if found := names(t, conn, sql); len(found) > 0 {
			t.Errorf("%s: %s", what, strings.Join(found, ", "))
		}
	}
	// The triggers are needed.
	pgtest.Exec(t, conn, "CREATE TABLE audit.unguarded (n int); ALTER TABLE audit.checkpoints ENABLE TRIGGER refuse_change; ALTER TABLE audit.events_2020_02 DISABLE TRIGGER refuse_row_change")
	if found := names(t, conn, unguarded); len(found) != 3 {
		t.Errorf("negative control: %v", found)
	}
}

// actAsW lets a session add events of writerW from here on.
const (
	actAsW  = "SELECT set_config('sallyport.writer_secret', 'secret', false)"
	writerW = "000000000001-K7gNU3sdo-OL0wNhqoVWhg" // SHA-256 of "secret"
)

func TestAppendOnly(t *testing.T) {
	db := migrated(t)
	writer, admin := pgtest.Connect(t, db.URL(Writer)), pgtest.Connect(t, db.URL(""))
	pgtest.Exec(t, writer, actAsW)
	for i, at := range []string{"2020-02-29 23:59:59.999999Z", "2020-03-01 00:00:00Z", "2035-12-31 23:59:59.999999Z"} {
		pgtest.Exec(t, writer, "SELECT audit.ensure_partition(($1::timestamptz AT TIME ZONE 'UTC')::date)", at)
		pgtest.Exec(t, writer, insertEvent, at, i+1)
	}
	pgtest.Exec(t, writer, "INSERT INTO audit.policies (digest, content) VALUES ('sha256:' || encode(sha256(''), 'hex'), '')")
	pgtest.Exec(t, admin, "INSERT INTO audit.leaves (index, writer, writer_sequence, hash) VALUES (0, $1, 1, sha256(''))", writerW)
	pgtest.Exec(t, admin, "INSERT INTO audit.checkpoints (number, size, time, root, frontier, note) VALUES (1, 1, now(), sha256(''), sha256(''), '')")
	all := tables(t, admin)
	if len(all) < 10 {
		t.Fatalf("tables: %v", all)
	}
	for table, column := range all {
		update := "UPDATE " + table + " SET " + column + " = " + column
		for _, statement := range []string{update, update + " WHERE false", "DELETE FROM " + table, "DELETE FROM " + table + " WHERE false", "TRUNCATE " + table} {
			if _, err := writer.Exec(t.Context(), statement); pgtest.SQLState(err) != "42501" {
				t.Errorf("writer: %s: %v", statement, err)
			}
			// The owner, a superuser, and a superuser who switches triggers off
			// for the session, the way replication does.
			for _, as := range []string{"SET LOCAL ROLE sallyport_owner", "SELECT 1", "SET LOCAL session_replication_role = replica"} {
				err := attempt(t, admin, as, statement)
				if pgtest.SQLState(err) != "23001" {
					t.Errorf("%s: %s: %v", as, statement, err)
				}
			}
		}
	}
	if n := pgtest.Value[int](t, admin, "SELECT count(*) FROM audit.events"); n != 3 {
		t.Errorf("%d events are left of 3", n)
	}
	partitions := pgtest.Value[int](t, admin, "SELECT count(*) FROM pg_inherits WHERE inhparent = 'audit.events'::regclass")
	if n := pgtest.Value[int](t, admin, "SELECT count(*) FROM pg_trigger WHERE tgrelid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'audit.events'::regclass) AND tgenabled = 'A'"); partitions < 3 || n != 4*partitions {
		t.Errorf("%d triggers fire always on %d partitions", n, partitions)
	}

	// Without the triggers the same statements go through: the triggers are needed.
	pgtest.Exec(t, admin, "ALTER TABLE audit.events DISABLE TRIGGER ALL")
	pgtest.Exec(t, admin, "ALTER TABLE audit.events_2020_02 DISABLE TRIGGER ALL")
	if err := attempt(t, admin, "SET LOCAL ROLE sallyport_owner", "DELETE FROM audit.events_2020_02"); err != nil {
		t.Errorf("negative control: %v", err)
	}
}

// attempt runs a statement in a transaction that is rolled back.
func attempt(t *testing.T, conn *pgx.Conn, before, statement string) error {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	if _, err := tx.Exec(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	_, err = tx.Exec(t.Context(), statement)
	return err
}

func TestPrivileges(t *testing.T) {
	db := migrated(t)
	admin := pgtest.Connect(t, db.URL(""))
	pgtest.Exec(t, admin, "DROP ROLE IF EXISTS stranger; CREATE ROLE stranger LOGIN")
	const add = "INSERT INTO audit.events (time, kind, writer, writer_sequence, record) VALUES (now(), 'admin', '" + writerW + "', 1, '{}')"
	for _, tt := range []struct {
		statement                 string
		writer, auditor, stranger bool
	}{
		{"SELECT FROM audit.events", true, true, false},
		{"SELECT FROM audit.policies", true, true, false},
		{"SELECT FROM audit.leaves", true, true, false},
		{"SELECT FROM audit.checkpoints", true, true, false},
		{"INSERT INTO audit.leaves (index, writer, writer_sequence, hash) VALUES (0, 'w', 1, sha256(''))", false, false, false},
		{"INSERT INTO audit.checkpoints (number, size, time, root, frontier, note) VALUES (1, 1, now(), sha256(''), sha256(''), '')", false, false, false},
		{"SELECT audit.try_seal_lock()", false, false, false},
		{"SELECT audit.add_checkpoint('{}', '{}', '{}', '')", false, false, false},
		{"SELECT FROM audit.decisions", true, true, false},
		{"SELECT FROM audit.deployment_egress", true, true, false},
		{"SELECT FROM audit.writers", true, true, false},
		{"SELECT FROM sallyport.schema_version", true, true, false},
		{"INSERT INTO sallyport.schema_version (version_id, is_applied) VALUES (99, true)", false, false, false},
		{add, true, false, false},
		{"INSERT INTO audit.policies (digest, content) VALUES ('sha256:' || encode(sha256('x'), 'hex'), 'x')", true, false, false},
		{"INSERT INTO audit.events (time, kind, writer, writer_sequence, record) VALUES (now(), 'admin', 'another', 1, '{}')", false, false, false},
		{"INSERT INTO audit.policies (digest, content, first_seen) VALUES ('sha256:' || encode(sha256('x'), 'hex'), 'x', '2020-01-01')", false, false, false},
		{"SELECT audit.ensure_partition('2027-01-01')", true, false, false},
		{"SELECT audit.refuse_change()", false, false, false},
		{"SELECT audit.record_export('query', '{}', 1, sha256(''), 'tool')", true, true, false},
		{"SELECT FROM audit.holds", true, true, false},
		{"SELECT FROM audit.expired", true, true, false},
		{"INSERT INTO audit.expired (month, retention, writer, events, last_sequence) VALUES (now(), 1, 'w', 1, 1)", false, false, false},
		{"SELECT audit.set_hold('2020-01-01', '2020-01-01', 'why')", false, true, false},
		{"SELECT audit.lift_hold(1, 'why')", false, false, false},
		{"SELECT audit.check_month('2020-01-01')", false, true, false},
		{"SELECT audit.expire('2020-01-01')", false, false, false},
		{"SELECT audit.append_event('retention', 'a', 'b')", false, false, false},
		{"SELECT audit.escape('x', 1)", false, false, false},
		{"SELECT audit.retention_lock()", false, false, false},
		{"INSERT INTO audit.events (time, kind, writer, writer_sequence, record) VALUES (now(), 'retention', 'database', 1, '{}')", false, false, false},
		{"CREATE TABLE audit.mine ()", false, false, false},
		{"CREATE TABLE public.mine ()", false, false, false},
		{"DROP TABLE audit.events", false, false, false},
		{"ALTER TABLE audit.events DISABLE TRIGGER ALL", false, false, false},
		{"SET ROLE sallyport_owner", false, false, false},
	} {
		for role, may := range map[string]bool{Writer: tt.writer, Auditor: tt.auditor, "stranger": tt.stranger} {
			before := "SELECT 1"
			if role == Writer {
				before = actAsW
			}
			err := attempt(t, pgtest.Connect(t, db.URL(role)), before, tt.statement)
			if may && err != nil || !may && pgtest.SQLState(err) != "42501" {
				t.Errorf("%s: %s: %v", role, tt.statement, err)
			}
		}
	}
	if _, err := pgx.Connect(t.Context(), db.URL(Owner)); pgtest.SQLState(err) != "28000" {
		t.Errorf("the owner logs in: %v", err)
	}
}

// Everything that an auditor sees has a comment.
func TestEverythingIsCommented(t *testing.T) {
	conn := pgtest.Connect(t, migrated(t).URL(""))
	rows, err := conn.Query(t.Context(), `
		SELECT c.oid::regclass::text FROM pg_class c
		WHERE c.relnamespace = 'audit'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND obj_description(c.oid) IS NULL
		UNION ALL
		SELECT c.oid::regclass || '.' || a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		WHERE c.relnamespace = 'audit'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND col_description(c.oid, a.attnum) IS NULL
		UNION ALL
		SELECT p.oid::regprocedure::text FROM pg_proc p WHERE p.pronamespace = 'audit'::regnamespace AND obj_description(p.oid) IS NULL`)
	if err != nil {
		t.Fatal(err)
	}
	missing, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	if len(missing) > 0 {
		t.Errorf("without a comment: %s", strings.Join(missing, ", "))
	}
}

// Making a partition must not wait for, nor hold up, those who insert.
func TestPartitionWhileOthersInsert(t *testing.T) {
	db := migrated(t)
	a, b, c := pgtest.Connect(t, db.URL(Writer)), pgtest.Connect(t, db.URL(Writer)), pgtest.Connect(t, db.URL(Writer))
	ctx := t.Context()
	for _, conn := range []*pgx.Conn{a, c} {
		pgtest.Exec(t, conn, actAsW)
	}
	pgtest.Exec(t, a, "BEGIN")
	pgtest.Exec(t, a, insertEvent, "now", 1)
	pgtest.Exec(t, b, "BEGIN")
	pgtest.Exec(t, b, "SELECT audit.ensure_partition('2031-07-15')") // an insert is open
	pgtest.Exec(t, c, insertEvent, "now", 2)                         // a new partition is not committed yet
	for _, conn := range []*pgx.Conn{b, a} {
		pgtest.Exec(t, conn, "COMMIT")
	}
	if name := pgtest.Value[string](t, c, "SELECT audit.ensure_partition('2031-07-01')"); name != "events_2031_07" {
		t.Error(name)
	}
	// Bounds are UTC whatever the session's time zone is.
	pgtest.Exec(t, c, "SET timezone = 'America/New_York'")
	pgtest.Exec(t, c, "SELECT audit.ensure_partition('2031-08-01')")
	pgtest.Exec(t, c, insertEvent, "2031-07-31 23:59:59.999999Z", 3)
	pgtest.Exec(t, c, insertEvent, "2031-08-01 00:00:00Z", 4)
	if n := pgtest.Value[int](t, pgtest.Connect(t, db.URL("")), "SELECT count(*) FROM audit.events_2031_07"); n != 1 {
		t.Errorf("%d events in July", n)
	}
	for _, day := range []string{"1969-12-31", "10000-01-01", "-infinity"} {
		if _, err := c.Exec(ctx, "SELECT audit.ensure_partition($1)", day); err == nil {
			t.Errorf("a partition for %s", day)
		}
	}
}
