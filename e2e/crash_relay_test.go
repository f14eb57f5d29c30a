package e2e

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"path/filepath"
	"regexp"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sallyport/sallyport/internal/pgtest"
)

// A relay stands between the proxy and PostgreSQL, on loopback, and reads what
// passes (PostgreSQL documentation, "Message Formats"). It knows which
// connection is the audit log's own and which message ends a transaction of
// events there, and cuts the connection at that point when a cut is armed.
type relay struct {
	listener net.Listener
	server   string // PostgreSQL's socket
	armed    atomic.Pointer[cut]
	wg       sync.WaitGroup
}

// A cut is made once.
type cut struct {
	committed bool   // the server has committed, and its answer is lost; else it never hears of it
	fresh     bool   // in a connection that was made after this was armed
	then      func() // done at that moment, before the connection ends
	made      chan struct{}
}

// newRelay listens for a proxy.
func newRelay(t testing.TB, server *pgtest.Server) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: l, server: filepath.Join(server.SocketDirectory(), ".s.PGSQL.5432")}
	r.wg.Go(r.serve)
	t.Cleanup(func() { _ = l.Close(); r.wg.Wait() })
	return r
}

// arm has the next transaction of events cut. What it returns is closed when
// that was done.
func (r *relay) arm(c cut) <-chan struct{} {
	c.made = make(chan struct{})
	r.armed.Store(&c)
	return c.made
}

// disarm cancels a fault that has not occurred.
func (r *relay) disarm() { r.armed.Store(nil) }

func (r *relay) serve() {
	for {
		client, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.wg.Go(func() {
			defer client.Close()
			server, err := net.Dial("unix", r.server)
			if err != nil {
				return // PostgreSQL is unavailable
			}
			defer server.Close()
			c := &relayed{relay: r, client: client, server: server, before: r.armed.Load()}
			var back sync.WaitGroup
			back.Go(func() { _ = c.relayResponses(); c.end() })
			_ = c.requests()
			c.end()
			back.Wait()
		})
	}
}

// A relayed connection.
type relayed struct {
	relay          *relay
	client, server net.Conn
	before         *cut // what was armed when it began
	events         bool // it is the audit log's own
	pending        atomic.Pointer[cut]
}

func (c *relayed) end() { _ = c.client.Close(); _ = c.server.Close() }

var errCut = errors.New("cut")

// The audit log's own session bears the writer's name.
var eventSession = regexp.MustCompile("application_name\x00sallyport audit [0-9a-f]{12}-")

// requests passes on what the proxy sends.
func (c *relayed) requests() error {
	startup, err := frame(c.client, 0)
	if err != nil {
		return err
	}
	c.events = eventSession.Match(startup)
	if _, err := c.server.Write(startup); err != nil {
		return err
	}
	inserting := false
	for {
		message, err := frame(c.client, 1)
		if err != nil {
			return err
		}
		switch message[0] {
		case 'B': // Bind: portal, and then the name of the statement
			inserting = inserting || bytes.Contains(message, []byte("\x00sallyport_insert"))
		case 'Q':
			inserting = inserting || bytes.HasPrefix(message[5:], []byte("COPY audit.events"))
		case 'S', 'c': // Sync, and CopyDone: both commit
			if inserting && c.events {
				if err := c.commit(); err != nil {
					return err
				}
			}
			inserting = false
		}
		if _, err := c.server.Write(message); err != nil {
			return err
		}
	}
}

// commit is called before the message that commits is passed on.
func (c *relayed) commit() error {
	armed := c.relay.armed.Load()
	if armed == nil || armed.fresh && c.before != armed { // this connection is older than the cut
		return nil
	}
	if !c.relay.armed.CompareAndSwap(armed, nil) {
		return nil
	}
	if armed.committed {
		c.pending.Store(armed)
		return nil
	}
	return c.make(armed)
}

func (c *relayed) make(armed *cut) error {
	if armed.then != nil {
		armed.then()
	}
	c.end()
	close(armed.made)
	return errCut
}

// relayResponses relays what PostgreSQL sends. With a cut pending nothing is passed
// on any more until ReadyForQuery, which marks the end of the transaction.
func (c *relayed) relayResponses() error {
	for {
		message, err := frame(c.server, 1)
		if err != nil {
			if armed := c.pending.Load(); armed != nil { // PostgreSQL has ended first
				return c.make(armed)
			}
			return err
		}
		if armed := c.pending.Load(); armed != nil {
			if message[0] == 'Z' {
				return c.make(armed)
			}
			continue
		}
		if _, err := c.client.Write(message); err != nil {
			return err
		}
	}
}

// frame reads a message: so many bytes of type, four of length, and the rest.
func frame(from io.Reader, kind int) ([]byte, error) {
	head := make([]byte, kind+4)
	if _, err := io.ReadFull(from, head); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[kind:])
	if size < 4 || size > 1<<26 {
		return nil, errors.New("no message of PostgreSQL's")
	}
	message := append(head, make([]byte, size-4)...)
	_, err := io.ReadFull(from, message[len(head):])
	return message, err
}
