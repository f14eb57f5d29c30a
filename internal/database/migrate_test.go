package database

import (
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/pgtest"
	"github.com/sallyport/sallyport/migrations"
)

func TestMigrateUpAndDown(t *testing.T) {
	url := pgtest.New(t).URL("")
	conn := pgtest.Connect(t, url)
	if err := CheckVersion(t.Context(), conn); err == nil || !strings.Contains(err.Error(), "run `sallyport migrate`") {
		t.Errorf("an empty database: %v", err)
	}
	step := func(want, wantFrom int64) {
		t.Helper()
		from, to, err := migrate(t.Context(), url, nil, want)
		if err != nil || from != wantFrom || to != want {
			t.Fatalf("to %d: from %d to %d, %v", want, from, to, err)
		}
		if v, err := Version(t.Context(), conn); err != nil || v != want {
			t.Fatalf("version %d, %v; want %d", v, err, want)
		}
	}
	latest := migrations.Latest()
	step(latest, 0)
	step(latest, latest)
	if err := CheckVersion(t.Context(), conn); err != nil {
		t.Error(err)
	}
	numbers := append([]int64{0}, versions(t)...)
	for i := len(numbers) - 1; i > 0; i-- {
		step(numbers[i-1], numbers[i])
	}
	if n := pgtest.Value[int](t, conn, "SELECT count(*) FROM pg_namespace WHERE nspname = 'audit'"); n != 0 {
		t.Error("going down left the schema")
	}
	step(latest, 0)

	pgtest.Exec(t, conn, "INSERT INTO audit.events (time, kind, writer, writer_sequence, record) VALUES (now(), 'admin', 'w', 1, '{}')")
	if _, _, err := migrate(t.Context(), url, nil, 0); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("a log with an event in it was taken down: %v", err)
	}
}

// TestMigrationLockIsBounded: every login that may connect can hold the migration
// lock; the error of a migration names the session, and none waits for good.
func TestMigrationLockIsBounded(t *testing.T) {
	db := pgtest.New(t)
	stranger := pgtest.Connect(t, db.URL(""))
	pgtest.Exec(t, stranger, "SELECT pg_advisory_lock($1)", int64(migrationLock))
	was := migrationWait
	migrationWait = 50 * time.Millisecond
	defer func() { migrationWait = was }()
	_, _, err := Migrate(t.Context(), db.URL(""), nil)
	if named := fmt.Sprintf("session %d of the login", stranger.PgConn().PID()); err == nil || !strings.Contains(err.Error(), named) {
		t.Errorf("%v, and %s holds the lock", err, named)
	}
	pgtest.Exec(t, stranger, "SELECT pg_advisory_unlock_all()")
	migrationWait = was
	if _, _, err := Migrate(t.Context(), db.URL(""), nil); err != nil {
		t.Error(err)
	}
}

// versions are the numbers of the migrations.
func versions(t *testing.T) []int64 {
	t.Helper()
	names, err := fs.Glob(migrations.Files, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	var all []int64
	for _, name := range names {
		number, err := strconv.ParseInt(strings.SplitN(name, "_", 2)[0], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, number)
	}
	return all
}

func TestVersionsThatDoNotFit(t *testing.T) {
	urlOf := pgtest.New(t).URL
	url := urlOf("")
	if _, _, err := Migrate(t.Context(), url, nil); err != nil {
		t.Fatal(err)
	}
	conn := pgtest.Connect(t, url)
	latest := migrations.Latest()
	if oldest := pgtest.Value[int64](t, conn, "SELECT sallyport.oldest_program()"); oldest > latest || oldest < migrations.Oldest {
		t.Errorf("the schema serves programs from %d on", oldest)
	}
	// The next version of the schema decides whether this program may continue.
	pgtest.Exec(t, conn, "INSERT INTO sallyport.schema_version (version_id, is_applied) VALUES ($1, true), ($1 + 1, true)", latest+1)
	for oldest, want := range map[int64]string{latest: "", latest + 1: "too new"} {
		pgtest.Exec(t, conn, "CREATE OR REPLACE FUNCTION sallyport.oldest_program() RETURNS bigint LANGUAGE sql RETURN "+strconv.FormatInt(oldest, 10))
		for _, role := range []string{Writer, Auditor, ""} {
			err := CheckVersion(t.Context(), pgtest.Connect(t, urlOf(role)))
			if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("a schema that serves programs from %d on, as %q: %v", oldest, role, err)
			}
		}
	}
	if _, _, err := Migrate(t.Context(), url, nil); err == nil || !strings.Contains(err.Error(), "install the current version") {
		t.Errorf("a newer database was migrated: %v", err)
	}
	pgtest.Exec(t, conn, "DELETE FROM sallyport.schema_version WHERE version_id >= $1", migrations.Oldest)
	if err := CheckVersion(t.Context(), conn); err == nil || !strings.Contains(err.Error(), "run `sallyport migrate`") {
		t.Errorf("an old database: %v", err)
	}
}

// Several instances start at once, on one database and on several of a cluster,
// whose roles do not exist yet.
func TestConcurrentMigrations(t *testing.T) {
	server := pgtest.Start(t, pgtest.Options{NoSync: true})
	urls := []string{server.New(t).URL(""), server.New(t).URL(""), server.New(t).URL("")}
	var wg sync.WaitGroup
	for _, url := range append(urls, urls...) {
		wg.Go(func() {
			if _, to, err := Migrate(t.Context(), url, nil); err != nil || to != migrations.Latest() {
				t.Errorf("to %d: %v", to, err)
			}
		})
	}
	wg.Wait()
	for _, url := range urls {
		if err := CheckVersion(t.Context(), pgtest.Connect(t, url)); err != nil {
			t.Error(err)
		}
	}
}

// A managed PostgreSQL: the login that migrates may not make roles.
func TestMigrateWithoutRights(t *testing.T) {
	server := pgtest.Start(t, pgtest.Options{NoSync: true})
	db := server.New(t)
	admin := pgtest.Connect(t, db.URL(""))
	pgtest.Exec(t, admin, "CREATE ROLE deployer LOGIN")
	fails := func(want string) {
		t.Helper()
		_, _, err := Migrate(t.Context(), db.URL("deployer"), nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Fatalf("%v", err)
		}
	}
	fails(`"deployer" may not create roles; let an administrator run what ` + "`sallyport migrate --print-roles`")
	pgtest.Exec(t, admin, PrintRoles())
	pgtest.Exec(t, admin, PrintRoles()) // again
	fails(`the roles exist, and the login "deployer" is not a member of sallyport_owner: name the login that migrates in audit.migration_url_file, or let an administrator run GRANT sallyport_owner TO "deployer"`)
	pgtest.Exec(t, admin, "GRANT sallyport_owner TO deployer")
	if _, _, err := Migrate(t.Context(), db.URL("deployer"), nil); err != nil {
		t.Fatal(err)
	}
	if err := CheckVersion(t.Context(), pgtest.Connect(t, db.URL(Writer))); err != nil {
		t.Error(err)
	}
	if owner := pgtest.Value[string](t, admin, "SELECT tableowner FROM pg_tables WHERE schemaname = 'audit' AND tablename = 'events'"); owner != Owner {
		t.Errorf("audit.events belongs to %s", owner)
	}

	// A login that may make roles, and owns the database, needs no administrator.
	pgtest.Exec(t, admin, "CREATE ROLE maker LOGIN CREATEROLE")
	second := server.New(t)
	pgtest.Exec(t, admin, `ALTER DATABASE "`+second.Name+`" OWNER TO maker`)
	if _, _, err := Migrate(t.Context(), second.URL("maker"), nil); err != nil {
		t.Error(err)
	}
	if _, err := admin.Exec(t.Context(), "SELECT 1 FROM pg_roles WHERE rolname = 'sallyport_owner' AND rolcanlogin"); err != nil {
		t.Error(err)
	}
	if pgtest.Value[bool](t, admin, "SELECT rolcanlogin FROM pg_roles WHERE rolname = 'sallyport_owner'") {
		t.Error("the owner can log in")
	}
}
