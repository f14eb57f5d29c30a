// Package pgtest gives tests real PostgreSQL databases, cheaply.
//
// One server serves all tests of a process. It starts when the first test asks
// for it, with durability off, from a copy of an initialised cluster that is
// kept in the user's cache directory. Nothing has to be set up: New(t) is
// enough, as root and as an ordinary user alike.
//
//	func TestSomething(t *testing.T) {
//		db := pgtest.New(t)
//		pool, err := pgxpool.New(t.Context(), db.URL(""))
//
// The server ends with the process, however that ends. A package whose TestMain
// is
//
//	func TestMain(m *testing.M) { pgtest.Main(m) }
//
// also leaves no files behind; without it, the next process that uses pgtest
// removes them.
//
// Roles belong to a server, not to a database. Each test process has its own
// server, so packages that are tested at once do not meet; tests of one process
// that run in parallel and create or change roles do, and take LockRoles.
//
// Tests of durability use Start, or StartFrom where it should have a prepared
// database: a server of their own, with all safety on, that can be killed, frozen and
// restarted.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/internal/pgembed"
)

// Superuser is the role that a URL for the user "" logs in as.
const Superuser = pgembed.Superuser

// patience bounds each administrative statement.
const patience = time.Minute

// shared is the process's server.
var shared struct {
	mu     sync.Mutex
	server *Server
	err    error // the first failure is every test's: starting again would not help
}

// New returns an empty database on the process's server. It is dropped, and
// its connections are closed, at the end of the test.
func New(t testing.TB) *DB {
	t.Helper()
	return Shared(t).New(t)
}

// NewFrom returns a database that is a copy of one that prepare has filled, for
// instance by running the migrations. prepare runs once in a process for each
// key; it gets the superuser's URL of an empty database, and must leave no
// connection open. It holds LockRoles while it runs.
func NewFrom(t testing.TB, key string, prepare func(ctx context.Context, url string) error) *DB {
	t.Helper()
	return Shared(t).NewFrom(t, key, prepare)
}

// Shared returns the process's server, and starts it if need be.
func Shared(t testing.TB) *Server {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.server == nil && shared.err == nil {
		shared.server, shared.err = launch(Options{NoSync: true, Settings: map[string]string{
			"max_connections": "400", // packages run many tests in parallel
		}}, "")
	}
	if shared.err != nil {
		t.Fatalf("pgtest: %v", shared.err)
	}
	return shared.server
}

// Main runs a package's tests, ends the process's server, removes its files and
// exits.
func Main(m *testing.M) {
	code := m.Run()
	if err := Close(); err != nil {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// Close ends the process's server and removes its files, and those of [StartFrom]; without
// them it does nothing. It is for a TestMain that does more than Main; the next New starts
// another server.
func Close() error {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	server := shared.server
	shared.server, shared.err = nil, nil
	err := removePrepared()
	if server == nil {
		return err
	}
	return errors.Join(server.close(), err)
}

// DB is a database.
type DB struct {
	Name   string
	Server *Server
}

// URL is the connection string for a role; "" is the superuser. No role needs
// a password.
func (db *DB) URL(user string) string { return db.Server.URL(db.Name, user) }

// databases numbers the databases of this process.
var databases atomic.Int64

// New returns an empty database of the server, dropped at the end of the test.
func (s *Server) New(t testing.TB) *DB {
	t.Helper()
	return s.create(t, "template0")
}

// NewFrom is the function NewFrom, on this server.
func (s *Server) NewFrom(t testing.TB, key string, prepare func(ctx context.Context, url string) error) *DB {
	t.Helper()
	name, err := s.template(key, prepare)
	if err != nil {
		t.Fatalf("pgtest: preparing %q: %v", key, err)
	}
	return s.create(t, name)
}

func (s *Server) create(t testing.TB, template string) *DB {
	t.Helper()
	// Not by the test's name: messages hold the database's, and no text that a test
	// expects may be found there.
	db := &DB{Name: fmt.Sprintf("t%d", databases.Add(1)), Server: s}
	if err := s.execute(fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s", quote(db.Name), quote(template))); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() {
		if s.ended() {
			return // the test has ended the server itself
		}
		if err := s.execute("DROP DATABASE IF EXISTS " + quote(db.Name) + " WITH (FORCE)"); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	return db
}

// template returns the name of the prepared database of a key.
func (s *Server) template(key string, prepare func(ctx context.Context, url string) error) (string, error) {
	s.templatesMu.Lock()
	defer s.templatesMu.Unlock()
	if made, ok := s.templates[key]; ok {
		return made.name, made.err
	}
	made := template{name: fmt.Sprintf("template%d_%s", databases.Add(1), plain(key))}
	if made.err = s.execute("CREATE DATABASE " + quote(made.name) + " TEMPLATE template0"); made.err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		unlock := s.LockRoles()
		made.err = prepare(ctx, s.URL(made.name, ""))
		unlock()
	}
	if s.templates == nil {
		s.templates = make(map[string]template)
	}
	s.templates[key] = made
	return made.name, made.err
}

// LockRoles keeps other tests of the process, those that take it too, from
// creating and changing roles until unlock is called. PostgreSQL answers
// "tuple concurrently updated" where two databases' migrations grant to the
// same role at once.
func (s *Server) LockRoles() (unlock func()) {
	s.roles.Lock()
	return s.roles.Unlock
}

// execute runs one statement as the superuser, outside of any test's database.
func (s *Server) execute(statement string) error {
	return s.executeAt(s.URL("postgres", ""), statement)
}

func (s *Server) executeAt(url, statement string) error {
	// Not the test's context: that is cancelled before its cleanups run.
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("connecting for %q: %w", statement, err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, statement); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }

// plain turns a key into a part of a database's name, of 63 bytes at most.
func plain(name string) string {
	name = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToLower(name))
	return name[:min(len(name), 40)]
}
