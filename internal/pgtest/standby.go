package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Standby starts a streaming standby of the server, made with pg_basebackup,
// and returns when it receives. It reports to the primary as the application
// name, which is what synchronous_standby_names compares. Databases that the
// test makes on the primary follow.
func (s *Server) Standby(t testing.TB, name string, options Options) *Server {
	t.Helper()
	standby, err := s.standby(name, options)
	if err != nil {
		t.Fatalf("pgtest: standby: %v", err)
	}
	t.Cleanup(func() {
		standby.thaw()
		if err := standby.close(); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	s.awaitTrue(t, "the standby receives", `SELECT EXISTS (SELECT FROM pg_stat_replication WHERE application_name = $1 AND state = 'streaming')`, name)
	return standby
}

func (s *Server) standby(name string, options Options) (*Server, error) {
	directory, inUse, err := newDirectory(parentFor(options.NoSync))
	if err != nil {
		return nil, err
	}
	standby := newServer(directory, inUse, options)
	if err := s.backup(standby.Directory, name); err != nil {
		return nil, errors.Join(err, standby.remove())
	}
	if err := standby.run(); err != nil {
		return nil, errors.Join(err, standby.remove())
	}
	return standby, nil
}

// backup copies the running cluster into the directory of another server that
// will follow it. What pg_basebackup writes belongs to this user, and is given
// to the one that the primary runs as.
func (s *Server) backup(directory, name string) error {
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return err
	}
	// The standby's server process, which is not this user's where that is root,
	// has to reach the primary's socket by its path.
	for _, above := range []string{filepath.Dir(s.Directory), s.Directory} {
		if err := os.Chmod(above, 0o711); err != nil {
			return err
		}
	}
	data := filepath.Join(directory, "data")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	program := filepath.Join(s.current().Binaries().Directory, "pg_basebackup")
	command := exec.CommandContext(ctx, program, "--pgdata", data, "--host", s.SocketDirectory(), "--port", "5432",
		"--username", Superuser, "--wal-method", "stream", "--checkpoint", "fast", "--no-sync")
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("pg_basebackup: %w: %s", err, output)
	}
	// In a file, and not on the command line, so that Detach can change it.
	follow := fmt.Sprintf("primary_conninfo = 'host=%s port=5432 user=%s application_name=%s'\n", s.SocketDirectory(), Superuser, name)
	conf, err := os.OpenFile(filepath.Join(data, "postgresql.auto.conf"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = conf.WriteString(follow)
	if err = errors.Join(err, conf.Close(), os.WriteFile(filepath.Join(data, "standby.signal"), nil, 0o600)); err != nil {
		return err
	}
	info, err := os.Stat(filepath.Join(s.Directory, "data"))
	if err != nil {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t)
	return filepath.WalkDir(data, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(owner.Uid), int(owner.Gid))
	})
}

// Detach stops a standby's receiving: what the primary commits from here on
// never reaches it.
func (s *Server) Detach(t testing.TB) {
	t.Helper()
	for _, statement := range []string{`ALTER SYSTEM SET primary_conninfo = ''`, `SELECT pg_reload_conf()`} {
		if err := s.execute(statement); err != nil {
			t.Fatalf("pgtest: %v", err)
		}
	}
	s.awaitTrue(t, "the standby receives no more", `SELECT NOT EXISTS (SELECT FROM pg_stat_wal_receiver)`)
}

// Promote makes a standby a primary, and returns when it accepts writes.
func (s *Server) Promote(t testing.TB) {
	t.Helper()
	if err := s.execute(`SELECT pg_promote(true, 60)`); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	s.awaitTrue(t, "the standby is a primary", `SELECT NOT pg_is_in_recovery()`)
}

// SynchronousStandby makes the server's commits wait for the standbys that the
// names name; empty: for none. It returns when that is so.
func (s *Server) SynchronousStandby(t testing.TB, names string) {
	t.Helper()
	for _, statement := range []string{`ALTER SYSTEM SET synchronous_standby_names = ` + quoteText(names), `SELECT pg_reload_conf()`} {
		if err := s.execute(statement); err != nil {
			t.Fatalf("pgtest: %v", err)
		}
	}
	s.awaitTrue(t, "the setting is in force", `SELECT current_setting('synchronous_standby_names') = $1`, names)
}

// ReadOnly makes a primary refuse to write from here on, also in sessions that are
// open, as an operator does who retires it. It is lifted at the end of the test.
func (s *Server) ReadOnly(t testing.TB) {
	t.Helper()
	set := func(sql, want string) {
		for _, statement := range []string{sql, `SELECT pg_reload_conf()`} {
			if err := s.executeAt(s.URL("postgres", "")+"&default_transaction_read_only=off", statement); err != nil {
				t.Errorf("pgtest: %v", err)
			}
		}
		s.awaitTrue(t, "the setting is in force", `SELECT current_setting('default_transaction_read_only') = $1`, want)
	}
	set(`ALTER SYSTEM SET default_transaction_read_only = on`, "on")
	t.Cleanup(func() { set(`ALTER SYSTEM RESET default_transaction_read_only`, "off") })
}

// Pair is a URL of a database on two servers that leads to the one that can be
// written to.
func Pair(database, user string, first, second *Server) string {
	q := url.Values{
		"host": {first.SocketDirectory() + "," + second.SocketDirectory()}, "port": {"5432,5432"},
		"user": {user}, "target_session_attrs": {"read-write"},
	}
	return "postgres:///" + database + "?" + q.Encode()
}

func quoteText(text string) string { return "'" + text + "'" }

// awaitTrue polls a condition, over one connection after the other.
func (s *Server) awaitTrue(t testing.TB, what, query string, arguments ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		holds, err := s.isTrue(ctx, query, arguments...)
		if holds {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("pgtest: %s: not within %s: %v", what, patience, err)
		}
	}
}

func (s *Server) isTrue(ctx context.Context, query string, arguments ...any) (holds bool, err error) {
	conn, err := pgx.Connect(ctx, s.URL("postgres", ""))
	if err != nil {
		return false, err
	}
	defer conn.Close(ctx)
	err = conn.QueryRow(ctx, query, arguments...).Scan(&holds)
	return holds, err
}
