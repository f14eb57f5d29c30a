package pgembed

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// start runs a server that the test closes at its end.
func start(t *testing.T, config Config) *Server {
	t.Helper()
	if config.Logger == nil {
		config.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	server, err := Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return server
}

// query runs statements and returns the last one's first column as text.
func query(t *testing.T, endpoint Endpoint, user string, statements ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, endpoint.URL("postgres", user))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	var answer string
	for _, statement := range statements {
		rows, err := conn.Query(ctx, statement, pgx.QueryExecModeSimpleProtocol)
		if err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
		for rows.Next() {
			if len(rows.RawValues()) > 0 {
				answer = string(rows.RawValues()[0])
			}
		}
		if err := rows.Err(); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	return answer
}

func TestDataOutlivesARestart(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "postgresql")
	first := start(t, Config{Directory: directory})
	query(t, first.Endpoint, Superuser, "create table kept (v text)", "insert into kept values ('here')", "create role somebody login")
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	<-first.Done()
	if err := first.Err(); err != nil {
		t.Errorf("after Close, Err() = %v", err)
	}
	if _, err := Locate(directory); !errors.Is(err, ErrNotRunning) {
		t.Errorf("after Close, Locate says %v", err)
	}
	second := start(t, Config{Directory: directory})
	if got := query(t, second.Endpoint, Superuser, "select v from kept"); got != "here" {
		t.Errorf("after a restart: %q", got)
	}
	if got := query(t, second.Endpoint, "somebody", "select current_user"); got != "somebody" {
		t.Errorf("logged in as %q", got)
	}
}

func TestServerIsClosedToOthersAndDurable(t *testing.T) {
	server := start(t, Config{Directory: filepath.Join(t.TempDir(), "postgresql"), Settings: map[string]string{"work_mem": "5MB"}})
	if got := query(t, server.Endpoint, Superuser, "select datcollate from pg_database where datname = 'postgres'"); got != "C" {
		t.Errorf("collation is %q", got)
	}
	for setting, want := range map[string]string{
		"listen_addresses": "", "unix_socket_permissions": "0700",
		"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "data_checksums": "on",
		"server_encoding": "UTF8", "work_mem": "5MB",
	} {
		if got := query(t, server.Endpoint, Superuser, "show "+setting); got != want {
			t.Errorf("%s = %q, want %q", setting, got, want)
		}
	}
	for _, name := range []string{"data", "socket"} {
		info, err := os.Stat(filepath.Join(server.directory, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o700 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
		if uid := info.Sys().(*syscall.Stat_t).Uid; uid != server.as.uid || uid == 0 {
			t.Errorf("%s belongs to %d, the server is %d", name, uid, server.as.uid)
		}
	}
}

// A configuration file inside the cluster cannot take durability away.
func TestClusterFilesDoNotWeakenTheServer(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "postgresql")
	first := start(t, Config{Directory: directory})
	query(t, first.Endpoint, Superuser, "alter system set fsync = off", "alter system set listen_addresses = '127.0.0.1'")
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := start(t, Config{Directory: directory})
	if got := query(t, second.Endpoint, Superuser, "show fsync"); got != "on" {
		t.Errorf("fsync = %q", got)
	}
	if got := query(t, second.Endpoint, Superuser, "show listen_addresses"); got != "" {
		t.Errorf("listen_addresses = %q", got)
	}
}

func TestTwoServersNeverShareADirectory(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "postgresql")
	server := start(t, Config{Directory: directory})
	_, err := Start(t.Context(), Config{Directory: directory})
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), directory) {
		t.Fatalf("a second server: %v", err)
	}
	endpoint, err := Locate(directory)
	if err != nil || endpoint != server.Endpoint {
		t.Errorf("Locate = %v, %v", endpoint, err)
	}
	query(t, endpoint, Superuser, "select 1")
}

func TestUnexpectedEndIsTold(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "postgresql")
	server := start(t, Config{Directory: directory})
	query(t, server.Endpoint, Superuser, "create table kept as select 'here' as v")
	if err := syscall.Kill(server.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-server.Done()
	if err := server.Err(); err == nil || !strings.Contains(err.Error(), "unasked") {
		t.Errorf("Err() = %v", err)
	}
	if err := server.Close(); err != nil {
		t.Errorf("closing a dead server: %v", err)
	}
	// Its postmaster.pid is stale, and its backends may live a moment longer.
	again := start(t, Config{Directory: directory})
	if got := query(t, again.Endpoint, Superuser, "select v from kept"); got != "here" {
		t.Errorf("after a crash: %q", got)
	}
}

// In a container the process ids of the last run are soon others' again.
func TestStalePostmasterFileThatNamesAStranger(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "postgresql")
	first := start(t, Config{Directory: directory})
	text, err := os.ReadFile(first.path("data/postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	// A living process of the server's own user, which PostgreSQL would take
	// for a server: another server of the same user.
	other := start(t, Config{Directory: filepath.Join(t.TempDir(), "postgresql"), NoSync: true})
	_, rest, _ := strings.Cut(string(text), "\n")
	forged := []byte(itoa(other.PID()) + "\n" + rest)
	if err := os.WriteFile(first.path("data/postmaster.pid"), forged, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(first.path("data/postmaster.pid"), int(first.as.uid), int(first.as.gid)); err != nil {
		t.Fatal(err)
	}
	start(t, Config{Directory: directory})
}

func TestSocketOfALongOrOddPath(t *testing.T) {
	for _, name := range []string{strings.Repeat("long", 30), "a,b c"} {
		directory := filepath.Join(t.TempDir(), name)
		server := start(t, Config{Directory: directory, NoSync: true})
		place := server.SocketDirectory()
		if strings.HasPrefix(place, directory) {
			t.Errorf("the socket is in %s", place)
		}
		query(t, server.Endpoint, Superuser, "select 1")
		if found, err := Locate(directory); err != nil || found != server.Endpoint {
			t.Errorf("Locate = %v, %v", found, err)
		}
		if err := server.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(place); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket's directory is left behind: %v", err)
		}
	}
}

func TestAnInterruptedInitialisationIsNoCluster(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "postgresql")
	if err := os.MkdirAll(filepath.Join(directory, "data.new", "base"), 0o700); err != nil {
		t.Fatal(err)
	}
	start(t, Config{Directory: directory, NoSync: true})
}

func TestStartRefusals(t *testing.T) {
	cluster := func(version string) func(t *testing.T, directory string) {
		return func(t *testing.T, directory string) {
			as, err := defaultAccount()
			if err != nil {
				t.Fatal(err)
			}
			if err := as.own(filepath.Join(directory, "data")); err != nil {
				t.Fatal(err)
			}
			if version == "" {
				return
			}
			if err := os.WriteFile(filepath.Join(directory, "data", "PG_VERSION"), []byte(version), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, test := range []struct {
		name    string
		prepare func(t *testing.T, directory string)
		config  Config
		want    []string
	}{
		{"another version", cluster("9\n"), Config{}, []string{"PostgreSQL 9", "install PostgreSQL 9", "pg_upgrade", BinariesVariable}},
		{"no version", cluster("what?"), Config{}, []string{"PG_VERSION", "what?"}},
		{"not a cluster", cluster(""), Config{}, []string{"holds no PostgreSQL cluster", "move it away"}},
		{"no binaries there", nil, Config{Binaries: "/nonexistent"}, []string{"the configured PostgreSQL directory", "/nonexistent"}},
		{"a setting that is none", nil, Config{NoSync: true, Settings: map[string]string{"no_such_setting": "1"}}, []string{"ended while starting", "no_such_setting"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			directory := t.TempDir()
			if test.prepare != nil {
				test.prepare(t, directory)
			}
			test.config.Directory = directory
			server, err := Start(t.Context(), test.config)
			if err == nil {
				server.Close()
				t.Fatal("started")
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("no %q in: %v", want, err)
				}
			}
			if _, err := Locate(directory); !errors.Is(err, ErrNotRunning) {
				t.Errorf("something is left running: %v", err)
			}
		})
	}
	if _, err := Start(t.Context(), Config{}); err == nil {
		t.Error("started without a directory")
	}
}

func TestCancelledStartLeavesNothing(t *testing.T) {
	directory := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Start(ctx, Config{Directory: directory}); !errors.Is(err, context.Canceled) {
		t.Fatalf("err = %v", err)
	}
	if _, err := Locate(directory); !errors.Is(err, ErrNotRunning) {
		t.Errorf("something is left running: %v", err)
	}
	start(t, Config{Directory: directory, NoSync: true})
}

// A stopped postmaster hears no SIGINT: Close has to force it.
func TestCloseIsBounded(t *testing.T) {
	directory := t.TempDir()
	server, err := Start(t.Context(), Config{Directory: directory, NoSync: true, StopTimeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(server.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := server.Close(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("Close() = %v", err)
	}
	start(t, Config{Directory: directory, NoSync: true})
}
