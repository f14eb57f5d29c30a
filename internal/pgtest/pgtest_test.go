package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/internal/pgembed"
)

func TestMain(m *testing.M) { Main(m) }

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = conn.Close(ctx)
	})
	return conn
}

func execute(t *testing.T, conn *pgx.Conn, statement string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func count(t *testing.T, conn *pgx.Conn, query string) int {
	t.Helper()
	var n int
	if err := conn.QueryRow(t.Context(), query).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

func TestDatabasesAreSeparateAndDropped(t *testing.T) {
	var name string
	t.Run("first", func(t *testing.T) {
		db := New(t)
		name = db.Name
		execute(t, connect(t, db.URL("")), "create table x (v int)")
	})
	db := New(t)
	conn := connect(t, db.URL(""))
	if n := count(t, conn, "select count(*) from pg_tables where tablename = 'x'"); n != 0 {
		t.Error("a database is not empty")
	}
	if n := count(t, conn, fmt.Sprintf("select count(*) from pg_database where datname = '%s'", name)); n != 0 {
		t.Errorf("%s is still there", name)
	}
}

func TestNewFromPreparesOnce(t *testing.T) {
	prepared := 0
	prepare := func(ctx context.Context, url string) error {
		prepared++
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		_, err = conn.Exec(ctx, "create table x as select generate_series(1, 3) as v")
		return err
	}
	for range 3 {
		conn := connect(t, NewFrom(t, "three rows", prepare).URL(""))
		if n := count(t, conn, "select count(*) from x"); n != 3 {
			t.Errorf("%d rows", n)
		}
		execute(t, conn, "delete from x")
	}
	if prepared != 1 {
		t.Errorf("prepared %d times", prepared)
	}
}

// TestStartFrom: each server has a copy of what was prepared once, roles included, and is
// as durable as one of [Start].
func TestStartFrom(t *testing.T) {
	prepared := 0
	prepare := func(ctx context.Context, url string) error {
		prepared++
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		_, err = conn.Exec(ctx, "create role reader login; create table x as select generate_series(1, 3) as v; grant select on x to reader")
		return err
	}
	for range 2 {
		server, db := StartFrom(t, Options{}, "three rows and a role", prepare)
		if n := count(t, connect(t, db.URL("reader")), "select count(*) from x"); n != 3 {
			t.Errorf("%d rows", n)
		}
		conn := connect(t, db.URL(""))
		if n := count(t, conn, "select count(*) from pg_settings where name in ('fsync', 'synchronous_commit', 'full_page_writes') and setting = 'on'"); n != 3 {
			t.Errorf("%d of 3 safety settings are on", n)
		}
		execute(t, conn, "delete from x where v = 1")
		server.Kill(t)
		server.Restart(t)
		if n := count(t, connect(t, db.URL("")), "select count(*) from x"); n != 2 {
			t.Errorf("%d rows after the crash", n)
		}
	}
	if prepared != 1 {
		t.Errorf("prepared %d times", prepared)
	}
}

func TestKillKeepsWhatWasCommitted(t *testing.T) {
	server := Start(t, Options{})
	db := server.New(t)
	conn := connect(t, db.URL(""))
	if n := count(t, conn, "select count(*) from pg_settings where name in ('fsync', 'synchronous_commit', 'full_page_writes') and setting = 'on'"); n != 3 {
		t.Errorf("%d of 3 safety settings are on", n)
	}
	execute(t, conn, "create table x (v int)")
	execute(t, conn, "insert into x values (1)")
	url := db.URL("")
	server.Kill(t)
	if _, err := conn.Exec(t.Context(), "select 1"); err == nil {
		t.Error("the connection has outlived the server")
	}
	server.Restart(t)
	if db.URL("") != url {
		t.Errorf("the URL was %s and is %s", url, db.URL(""))
	}
	if n := count(t, connect(t, url), "select count(*) from x"); n != 1 {
		t.Errorf("%d rows after the crash", n)
	}
	server.Shutdown(t)
	if _, err := pgembed.Locate(server.Directory); !errors.Is(err, pgembed.ErrNotRunning) {
		t.Errorf("after Shutdown: %v", err)
	}
	server.Restart(t)
	if n := count(t, connect(t, url), "select count(*) from x"); n != 1 {
		t.Errorf("%d rows after the shutdown", n)
	}
}

func TestFrozenServerAnswersNothingUntilThawed(t *testing.T) {
	server := Start(t, Options{NoSync: true})
	conn := connect(t, server.URL("postgres", ""))
	server.Freeze(t)
	answered := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.WithoutCancel(t.Context()), "select 1")
		answered <- err
	}()
	select {
	case err := <-answered:
		t.Errorf("a frozen server answered: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	server.Thaw(t)
	if err := <-answered; err != nil {
		t.Errorf("after Thaw: %v", err)
	}
}

// A test may end with its server frozen or killed.
func TestCleanupOfWhateverIsLeft(t *testing.T) {
	var directories []string
	for name, leave := range map[string]func(*Server, *testing.T){
		"frozen": func(s *Server, t *testing.T) { s.Freeze(t) },
		"killed": func(s *Server, t *testing.T) { s.Kill(t) },
	} {
		t.Run(name, func(t *testing.T) {
			server := Start(t, Options{NoSync: true})
			directories = append(directories, server.Directory)
			leave(server, t)
		})
	}
	for _, directory := range directories {
		if _, err := os.Stat(directory); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left behind: %v", directory, err)
		}
	}
}

func TestSweepSparesWhatIsUsed(t *testing.T) {
	parent := t.TempDir()
	used, inUse, err := newDirectory(parent)
	if err != nil {
		t.Fatal(err)
	}
	defer inUse.Close()
	left, lock, err := newDirectory(parent)
	if err != nil {
		t.Fatal(err)
	}
	lock.Close()
	foreign := filepath.Join(parent, prefix+"foreign")
	if err := os.Mkdir(foreign, 0o700); err != nil {
		t.Fatal(err)
	}
	sweep(parent)
	for directory, want := range map[string]bool{used: true, left: false, foreign: true} {
		if _, err := os.Stat(directory); (err == nil) != want {
			t.Errorf("%s: there %v, want %v", directory, err == nil, want)
		}
	}
}

func BenchmarkNew(b *testing.B) {
	Shared(b)
	for b.Loop() {
		New(b)
	}
}

func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		s, err := launch(Options{NoSync: true}, "")
		if err != nil {
			b.Fatal(err)
		}
		if err := s.close(); err != nil {
			b.Fatal(err)
		}
	}
}

// One of the server's processes is stopped, and the others continue.
func TestStopOneProcess(t *testing.T) {
	server := Start(t, Options{NoSync: true})
	if n := len(server.Processes("walwriter")); n != 1 {
		t.Fatalf("%d WAL writers", n)
	}
	server.Stop(t, "walwriter")
	db := server.New(t)
	conn := connect(t, db.URL(""))
	if n := count(t, conn, "select 1"); n != 1 {
		t.Error("the server does not go on")
	}
	if n := len(server.Processes("no such process")); n != 0 {
		t.Errorf("%d processes", n)
	}
	server.Thaw(t)
}
