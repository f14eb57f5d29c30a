package database

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/sallyport/sallyport/internal/pgtest"
)

const canary = "hunter2-canary"

// refusing is a server that answers every login with an error.
func refusing(t *testing.T, sqlstate string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			backend := pgproto3.NewBackend(conn, conn)
			if _, err := backend.ReceiveStartupMessage(); err == nil {
				backend.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: sqlstate, Message: "refused"})
				_ = backend.Flush()
			}
			_ = conn.Close()
		}
	}()
	return listener.Addr().String()
}

// plaintext answers as a server without TLS (PostgreSQL documentation, "SSL Session
// Encryption").
func plaintext(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if _, err := pgproto3.NewBackend(conn, conn).ReceiveStartupMessage(); err == nil {
				_, _ = conn.Write([]byte("N"))
			}
			_ = conn.Close()
		}
	}()
	return listener.Addr().String()
}

// boundAddress returns an address at which nothing listens, and at which no other process
// can listen before the test ends: a socket is bound to it.
func boundAddress(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(name.(*syscall.SockaddrInet4).Port)).String()
}

func TestErrorsSayWhatToDo(t *testing.T) {
	unreachable := boundAddress(t)
	at := func(address string) string {
		return "postgres://step:" + canary + "@" + address + "/log?sslmode=disable"
	}
	for _, tt := range []struct{ name, url, want string }{
		{"empty", " ", "is empty"},
		{"unescaped", "postgres://step:" + canary + "/x#y@127.0.0.1:5432/log", "percent-encoded"},
		{"not a port", "postgres://step@127.0.0.1:" + canary + "/log", "percent-encoded"},
		{"missing file", at(unreachable) + "&sslrootcert=/" + canary, "percent-encoded"},
		{"unreachable", at(unreachable), "nothing listens at " + unreachable},
		{"no socket", "postgres:///log?user=step&password=" + canary + "&host=/nonexistent", "nothing listens at the socket in /nonexistent"},
		{"wrong password", at(refusing(t, "28P01")), `the password for "step" is wrong`},
		{"not let in", at(refusing(t, "28000")), "pg_hba.conf"},
		{"no database", at(refusing(t, "3D000")), `CREATE DATABASE "log"`},
		{"misspelt parameter", at(refusing(t, "42704")), "correct its name"},
		{"no TLS", strings.Replace(at(plaintext(t)), "disable", "verify-full", 1), "the server has no TLS, and sslmode demands it: set ssl = on"},
		{"full", at(refusing(t, "53300")), "max_connections"},
		{"starting", at(refusing(t, "57P03")), "try again"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			_, _, migrating := Migrate(ctx, tt.url, nil)
			_, pooling := NewPool(ctx, tt.url, "test", 2)
			for _, err := range []error{migrating, pooling} {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v, want %q in it", err, tt.want)
				}
				for ; err != nil; err = errors.Unwrap(err) {
					if said := fmt.Sprintf("%v", err); strings.Contains(said, canary) {
						t.Errorf("the password is in %q", said)
					}
				}
			}
		})
	}
}

func TestExplain(t *testing.T) {
	config, err := ParseConfig("postgres://step@db.example/log", "test")
	if err != nil {
		t.Fatal(err)
	}
	if err := Explain("x", &config.Config, nil); err != nil {
		t.Error(err)
	}
	for _, tt := range []struct {
		err  error
		want string
	}{
		{&pgconn.PgError{Code: "42501", Message: "permission denied"}, Writer},
		{&pgconn.PgError{Code: "25006"}, "standby"},
		{&pgconn.PgError{Code: "28000", Message: `role "step" is not permitted to log in`}, "a role without LOGIN"},
		{&pgconn.PgError{Code: "53100"}, "disk is full"},
		{&net.DNSError{Name: "db.example", IsNotFound: true}, `"db.example" is not known`},
		{context.DeadlineExceeded, "does not answer"},
	} {
		err := Explain("x", &config.Config, fmt.Errorf("wrapped: %w", tt.err))
		if !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: want %q", err, tt.want)
		}
		if !errors.Is(err, tt.err) {
			t.Errorf("%v hides %T", err, tt.err)
		}
	}
}

func TestDurable(t *testing.T) {
	db := migrated(t)
	for _, tt := range []struct{ set, want string }{{"off", "on"}, {"local", "on"}, {"on", "on"}, {"remote_apply", "remote_apply"}} {
		conn := pgtest.Connect(t, db.URL(Writer))
		pgtest.Exec(t, conn, "SET synchronous_commit = "+tt.set)
		if err := Durable(t.Context(), conn.PgConn()); err != nil {
			t.Fatal(err)
		}
		if got := pgtest.Value[string](t, conn, "SHOW synchronous_commit"); got != tt.want {
			t.Errorf("%s became %s", tt.set, got)
		}
	}
}

func TestSettings(t *testing.T) {
	db := migrated(t)
	pool, err := NewPool(t.Context(), db.URL(Writer), "sallyport test", 3)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	var application, timeout, zone string
	if err := pool.QueryRow(t.Context(), "SELECT current_setting('application_name'), current_setting('statement_timeout'), current_setting('timezone')").
		Scan(&application, &timeout, &zone); err != nil {
		t.Fatal(err)
	}
	if application != "sallyport test" || timeout != "30s" || zone != "UTC" || pool.Config().MaxConns != 3 {
		t.Errorf("%q %q %q %d", application, timeout, zone, pool.Config().MaxConns)
	}
	if _, err := NewPool(t.Context(), "", "test", 0); err == nil {
		t.Error("an empty URL")
	}
}

// TestStrangersFunction: who may create in the schema public, which was everybody
// before PostgreSQL 15, runs nothing in our name by a function that fits our calls
// better than the system's (CVE-2018-1058). With the usual search path it would.
func TestStrangersFunction(t *testing.T) {
	db := migrated(t)
	admin := pgtest.Connect(t, db.URL(""))
	pgtest.Exec(t, admin, "GRANT CREATE ON SCHEMA public TO PUBLIC")
	// The system's takes a bigint.
	pgtest.Exec(t, admin, `CREATE FUNCTION public.pg_terminate_backend(pid integer, timeout integer) RETURNS boolean LANGUAGE plpgsql
		AS $$ BEGIN RAISE EXCEPTION 'a stranger runs as %', current_user; END $$`)
	const call = "SELECT pg_terminate_backend(0, 5000)"
	config, err := ParseConfig(db.URL(Writer), "sallyport test")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := Connect(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), call); err != nil {
		t.Error(err)
	}
	pgtest.Exec(t, conn, `SET search_path = "$user", public`)
	if _, err := conn.Exec(t.Context(), call); err == nil || !strings.Contains(err.Error(), "a stranger runs as sallyport_writer") {
		t.Errorf("without the search path: %v", err)
	}
}
