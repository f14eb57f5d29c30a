package database

import (
	"context"
	"errors"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/sallyport/sallyport/internal/pgtest"
)

// pooler stands between clients and PostgreSQL as PgBouncer does: it lends a
// server connection to a client for a transaction, or for its life.
type pooler struct {
	server  string // its socket
	user    string
	name    string // of the database
	session bool
	newest  bool // the server connection that was used last is lent first, as PgBouncer does by default
	mu      sync.Mutex
	idle    []*pgproto3.Frontend
	wg      sync.WaitGroup
}

// through starts a pooler with so many server connections, and returns the URL
// that goes through it.
func (p *pooler) through(t *testing.T, db *pgtest.DB, servers int) string {
	t.Helper()
	folder := t.TempDir()
	listener, err := net.Listen("unix", filepath.Join(folder, ".s.PGSQL.5432"))
	if err != nil {
		t.Fatal(err)
	}
	p.server, p.user, p.name = filepath.Join(db.Server.SocketDirectory(), ".s.PGSQL.5432"), Writer, db.Name
	for range servers {
		server, err := p.connect(t)
		if err != nil {
			t.Fatal(err)
		}
		p.idle = append(p.idle, server)
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { defer conn.Close(); p.serve(conn) })
		}
	}()
	t.Cleanup(func() { _ = listener.Close(); p.wg.Wait() })
	q := url.Values{"host": {folder}, "port": {"5432"}, "user": {Writer}}
	return "postgres:///" + db.Name + "?" + q.Encode()
}

// connect logs in to PostgreSQL.
func (p *pooler) connect(t *testing.T) (*pgproto3.Frontend, error) {
	conn, err := net.Dial("unix", p.server)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = conn.Close() })
	f := pgproto3.NewFrontend(conn, conn)
	f.Send(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": p.user, "database": p.name}})
	if err := f.Flush(); err != nil {
		return nil, err
	}
	for {
		m, err := f.Receive()
		if err != nil {
			return nil, err
		}
		if _, ready := m.(*pgproto3.ReadyForQuery); ready {
			return f, nil
		}
	}
}

// serve answers one client.
func (p *pooler) serve(conn net.Conn) {
	b := pgproto3.NewBackend(conn, conn)
	start, err := b.ReceiveStartupMessage()
	if err != nil {
		return
	}
	if s, ok := start.(*pgproto3.StartupMessage); ok {
		for name := range s.Parameters {
			switch name { // the only ones that PgBouncer knows
			case "user", "database", "application_name", "client_encoding", "datestyle", "timezone", "standard_conforming_strings":
			default:
				b.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "08P01", Message: "unsupported startup parameter: " + name})
				_ = b.Flush()
				return
			}
		}
	}
	b.Send(&pgproto3.AuthenticationOk{})
	b.Send(&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte{0, 0, 0, 1}})
	b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	if b.Flush() != nil {
		return
	}
	var server *pgproto3.Frontend
	defer func() { p.giveBack(server) }()
	for {
		m, err := b.Receive()
		if err != nil {
			return
		}
		if _, end := m.(*pgproto3.Terminate); end {
			return
		}
		if server == nil {
			server = p.lend()
		}
		server.Send(m)
		switch m.(type) {
		case *pgproto3.Query, *pgproto3.Sync:
		default:
			continue
		}
		if server.Flush() != nil {
			return
		}
		for status := byte(0); status == 0; {
			answer, err := server.Receive()
			if err != nil {
				return
			}
			b.Send(answer)
			if z, ready := answer.(*pgproto3.ReadyForQuery); ready {
				if status = z.TxStatus; status == 'I' && !p.session {
					p.giveBack(server)
					server = nil
				}
			}
		}
		if b.Flush() != nil {
			return
		}
	}
}

func (p *pooler) lend() *pgproto3.Frontend {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := 0
	if p.newest {
		at = len(p.idle) - 1
	}
	f := p.idle[at]
	p.idle = append(p.idle[:at:at], p.idle[at+1:]...)
	return f
}

func (p *pooler) giveBack(f *pgproto3.Frontend) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f != nil {
		p.idle = append(p.idle, f)
	}
}

// TestTransactionPooling: a pooler in transaction mode is refused, whichever
// server connection it lends, and one in session mode is not. Neither sees a
// startup parameter that PgBouncer refuses.
func TestTransactionPooling(t *testing.T) {
	db := migrated(t)
	for name, p := range map[string]*pooler{
		"transaction_newest": {newest: true}, "transaction_in_turn": {},
		"session_newest": {session: true, newest: true}, "session_in_turn": {session: true},
	} {
		t.Run(name, func(t *testing.T) {
			config, err := ParseConfig(p.through(t, db, 4), "sallyport test")
			if err != nil {
				t.Fatal(err)
			}
			if err := CheckSessions(t.Context(), config); p.session && err != nil || !p.session && !errors.Is(err, errPooled) {
				t.Errorf("%v", err)
			}
		})
	}
	config, err := ParseConfig(db.URL(Writer), "sallyport test")
	if err != nil {
		t.Fatal(err)
	}
	if err := CheckSessions(t.Context(), config); err != nil {
		t.Errorf("PostgreSQL itself: %v", err)
	}
}

// TestSessionCheckIsNeeded: behind a pooler in transaction mode a session's
// settings are not there any more in its next transaction, without an error.
func TestSessionCheckIsNeeded(t *testing.T) {
	config, err := ParseConfig((&pooler{}).through(t, migrated(t), 3), "sallyport test")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := Connect(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	results, err := conn.PgConn().Exec(t.Context(), "SHOW search_path").ReadAll()
	if err != nil || strings.Contains(string(results[0].Rows[0][0]), "pg_catalog") {
		t.Errorf("the search path stayed %q, %v: the check is not needed", results[0].Rows[0][0], err)
	}
}
