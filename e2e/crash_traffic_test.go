package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The hosts of the crash tests: a tunnel to .raw carries a protocol of its own, a tunnel
// to .tls begins with a ClientHello for its host.
const crashPolicy = `package sallyport.egress

allow contains {"rule": "nonce-raw", "protocol": "any"} if endswith(input.target.host, ".raw.crash.example")

allow contains {"rule": "nonce-tls"} if endswith(input.target.host, ".tls.crash.example")
`

const nonceLength = len("n00000000-00000000")

// An arrivals is an upstream that keeps a list of the nonces that have arrived,
// on disk before it answers.
type arrivals struct {
	ports []string
	file  *os.File
	queue chan landed
	done  sync.WaitGroup
}

type landed struct {
	nonce string
	kept  chan struct{}
}

func newArrivals(t testing.TB) *arrivals {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "arrivals"))
	if err != nil {
		t.Fatal(err)
	}
	a := &arrivals{file: file, queue: make(chan landed, 1024)}
	a.done.Go(func() { a.keep(t) })
	t.Cleanup(func() { // after the taps have ended
		close(a.queue)
		a.done.Wait()
		_ = file.Close()
	})
	for range 4 { // so that there are local ports enough
		a.ports = append(a.ports, newTap(t, "127.0.0.1:0", a.receive).port)
	}
	return a
}

// addSecret writes the waiting lines, syncs, and releases the goroutines that wait.
func (a *arrivals) keep(t testing.TB) {
	var waiting []landed
	for one := range a.queue {
		waiting = append(waiting[:0], one)
	more:
		for len(waiting) < cap(a.queue) {
			select {
			case one, open := <-a.queue:
				if !open {
					break more
				}
				waiting = append(waiting, one)
			default:
				break more
			}
		}
		var lines strings.Builder
		for _, w := range waiting {
			lines.WriteString(w.nonce + "\n")
		}
		if _, err := io.WriteString(a.file, lines.String()); err != nil {
			t.Errorf("the upstream's list: %v", err)
		}
		if err := a.file.Sync(); err != nil {
			t.Errorf("the upstream's list: %v", err)
		}
		for _, w := range waiting {
			close(w.kept)
		}
	}
}

// receive accepts one connection and reads its nonce.
func (a *arrivals) receive(c net.Conn) {
	in := bufio.NewReaderSize(c, 1024)
	first, err := in.Peek(1)
	if err != nil {
		return
	}
	var output []byte
	if first[0] == 0x16 { // TLS: one record
		head, err := in.Peek(5)
		if err != nil {
			return
		}
		output = make([]byte, 5+int(head[3])<<8+int(head[4]))
		if _, err := io.ReadFull(in, output); err != nil {
			return
		}
	} else if output, err = in.ReadBytes('\n'); err != nil {
		return
	}
	at := bytes.Index(output, []byte(".crash.example")) - len(".raw") - nonceLength
	if at < 0 {
		return
	}
	one := landed{string(output[at : at+nonceLength]), make(chan struct{})}
	a.queue <- one
	<-one.kept
	_, _ = io.WriteString(c, "kept\n")
}

// list is what has arrived, read from the disk.
func (a *arrivals) list(t testing.TB) []string {
	t.Helper()
	text, err := os.ReadFile(a.file.Name())
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(text))
}

// traffic opens one tunnel after the other, each to a host of its own.
type traffic struct {
	w        *fixture
	c        caller
	up       *arrivals
	seed     uint64
	rate     int
	next     atomic.Int64
	attempts atomic.Int64
	refused  atomic.Int64
	failed   atomic.Int64
	through  atomic.Int64

	mu     sync.Mutex
	seen   []string // the nonces that came through, as the client saw it
	stopIt chan struct{}
	all    sync.WaitGroup
}

const crashWorkers = 96

// start lets it flow until stop.
func (f *traffic) start() {
	f.stopIt = make(chan struct{})
	turns := make(chan struct{})
	f.all.Go(func() {
		defer close(turns)
		tick := time.NewTicker(time.Second / time.Duration(f.rate))
		defer tick.Stop()
		for {
			select {
			case <-f.stopIt:
				return
			case <-tick.C:
			}
			select {
			case turns <- struct{}{}:
			default: // all wait for an answer
			}
		}
	})
	for range crashWorkers {
		f.all.Go(func() {
			for range turns {
				f.attempt()
			}
		})
	}
}

// stop returns when the last attempt has its answer.
func (f *traffic) stop() {
	close(f.stopIt)
	f.all.Wait()
}

var errRefused = errors.New("refused")

func (f *traffic) attempt() {
	n := f.next.Add(1)
	nonce := fmt.Sprintf("n%08d-%08x", n, uint32(f.seed))
	f.attempts.Add(1)
	switch err := f.open(int(n), nonce); {
	case err == nil:
		f.through.Add(1)
		f.mu.Lock()
		f.seen = append(f.seen, nonce)
		f.mu.Unlock()
	case errors.Is(err, errRefused):
		f.refused.Add(1)
	default:
		f.failed.Add(1)
	}
}

// open is one tunnel; nil: the upstream has confirmed that it has the nonce.
func (f *traffic) open(n int, nonce string) error {
	conn, err := f.w.dialFrom(n)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(12 * time.Second))
	host, first := nonce+".raw.crash.example", ""
	if n%2 == 0 {
		host = nonce + ".tls.crash.example"
		first = record(handshake(names(host)))
	} else {
		first = host + "\n"
	}
	status, in, err := sendHead(conn, connectTo(host+":"+f.up.ports[n%len(f.up.ports)], f.c.basic()))
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return errRefused
	}
	if _, err := io.WriteString(conn, first); err != nil {
		return err
	}
	if output, err := in.ReadString('\n'); err != nil || output != "kept\n" {
		return fmt.Errorf("%q: %w", output, err)
	}
	return nil
}

// progress waits until so many more have come through.
func (f *traffic) progress(t testing.TB, n int64) {
	t.Helper()
	before := f.through.Load()
	eventually(t, "tunnels come through", func() bool { return f.through.Load() >= before+n })
}
