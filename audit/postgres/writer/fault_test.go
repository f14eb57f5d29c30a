package writer

import (
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
)

// A faultProxy stands between the log and PostgreSQL, and cuts one connection
// each time that it is armed.
type faultProxy struct {
	t        testing.TB
	listener net.Listener
	server   string // its socket
	mode     atomic.Int32
	at       atomic.Int32 // bytes of a message that cutBefore lets through; 0: half of them
	skip     atomic.Int32 // messages that cutInAnswer lets through
	cuts     atomic.Int32
	wg       sync.WaitGroup
}

const (
	pass      = iota
	cutBefore // half of the client's next message arrives, then nothing
	cutAfter  // the server commits, and its answer is lost
	// cutInAnswer loses a part of the answer.
	cutInAnswer
)

// throughFaults returns a proxy, and the URL that goes through it.
func throughFaults(t testing.TB, db *pgtest.DB) (*faultProxy, string) {
	t.Helper()
	folder := t.TempDir()
	listener, err := net.Listen("unix", filepath.Join(folder, ".s.PGSQL.5432"))
	if err != nil {
		t.Fatal(err)
	}
	p := &faultProxy{t: t, listener: listener, server: filepath.Join(db.Server.SocketDirectory(), ".s.PGSQL.5432")}
	go p.serve()
	t.Cleanup(func() { _ = listener.Close(); p.wg.Wait() })
	q := url.Values{"host": {folder}, "port": {"5432"}, "user": {database.Writer}}
	return p, "postgres:///" + db.Name + "?" + q.Encode()
}

func (p *faultProxy) serve() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("unix", p.server)
		if err != nil {
			_ = client.Close()
			continue
		}
		cut := func() { _ = client.Close(); _ = server.Close() }
		p.wg.Go(func() { defer cut(); p.requests(client, server) })
		p.wg.Go(func() { defer cut(); p.answers(server, client) })
	}
}

func (p *faultProxy) fire(mode int32) bool {
	if !p.mode.CompareAndSwap(mode, pass) {
		return false
	}
	p.cuts.Add(1)
	return true
}

func (p *faultProxy) requests(from, to net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if p.fire(cutBefore) {
			part := n / 2
			if at := int(p.at.Load()); at > 0 {
				part = min(at, n)
			}
			_, _ = to.Write(buffer[:part])
			return
		}
		if _, failed := to.Write(buffer[:n]); err != nil || failed != nil {
			return
		}
	}
}

// answers passes whole messages on (PostgreSQL documentation, "Message
// Formats"): a ReadyForQuery reports that the transaction before it is over.
func (p *faultProxy) answers(from, to net.Conn) {
	head := make([]byte, 5)
	for {
		if _, err := io.ReadFull(from, head); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(from, body); err != nil {
			return
		}
		if head[0] == 'Z' && p.fire(cutAfter) || p.skip.Add(-1) < 0 && p.fire(cutInAnswer) {
			return
		}
		if _, err := to.Write(append(append([]byte{}, head...), body...)); err != nil {
			return
		}
	}
}

// Whatever is cut when, an event whose Record returned nil is there once, and so
// is every other.
func TestExactlyOnceThroughFaults(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	p, through := throughFaults(t, db)
	l := logFor(t, through, nil)
	const rounds, at = 60, 20
	seen := newTally()
	for round := range rounds {
		p.mode.Store([]int32{cutAfter, cutBefore}[round%2])
		var wg sync.WaitGroup
		for n := range 1 + round%at {
			wg.Go(func() {
				e := audittest.Decision([]string{"allow", "deny"}[n%2], n)
				id := e.DecisionID
				if err := l.Record(t.Context(), e); err != nil {
					t.Errorf("round %d: %v", round, err)
					return
				}
				seen.acknowledge(id)
			})
		}
		wg.Wait()
	}
	p.mode.Store(pass)
	if cuts := p.cuts.Load(); cuts < rounds/2 {
		t.Errorf("only %d cuts", cuts)
	}
	if l.Stats().Reconnects == 0 {
		t.Error("nothing was cut")
	}
	audittest.Close(t, l)
	conn := audittest.Connect(t, db.URL(""))
	audittest.Sound(t, conn)
	seen.check(t, conn)
}

// A second writer under our name, or a log that was restored and continued: what
// is found is compared, and nothing is recorded from then on.
func TestConflictStopsTheLog(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	p, through := throughFaults(t, db)
	l := logFor(t, through, nil)
	audittest.Record(t, l, audittest.Decision("allow", 1))
	conn := audittest.Connect(t, db.URL(""))
	if _, err := conn.Exec(t.Context(), `INSERT INTO audit.events (time, kind, writer, writer_sequence, record) VALUES (now(), 'decision', $1, 3, '{}')`, l.Writer()); err != nil {
		t.Fatal(err)
	}
	p.mode.Store(cutBefore)
	if err := l.Record(t.Context(), audittest.Decision("allow", 2)); err == nil {
		t.Fatal("an event was recorded over another")
	}
	if err := l.Available(); err == nil || !isConflict(l.outage.Load().err) {
		t.Errorf("%v", err)
	}
	if err := l.Record(t.Context(), audittest.Decision("deny", 3)); err == nil {
		t.Error("the log goes on")
	}
	if err := l.Close(t.Context()); err == nil {
		t.Error("closing says nothing of the event that is not written")
	}
}
