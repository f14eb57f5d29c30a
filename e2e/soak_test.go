package e2e

import (
	"bufio"
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
	"syscall"
	"testing"
	"time"
)

// soakLimits remove the limits of one step: all tunnels are one step's.
const soakLimits = `limits:
  max_connections: 30000
  max_idle_connections_per_client: 5000
  step: {tunnels: 0, requests_per_second: 0, max_queued_requests: 4000, max_pending_header_bytes: 64MiB, max_concurrent_lookups: 256, max_concurrent_dials: 1000}
  repository: {tunnels: 0, requests_per_second: 0, max_queued_requests: 4000, max_pending_header_bytes: 64MiB, max_concurrent_lookups: 256, max_concurrent_dials: 1000}
  total: {tunnels: 0, requests_per_second: 0}
`

// footprint is the memory, descriptors and goroutines of a server.
type footprint struct{ goroutines, descriptors, heap, resident float64 }

// String is for the log.
func (f footprint) String() string {
	return fmt.Sprintf("%.0f goroutines, %.0f descriptors, %.1f MB live heap, %.1f MB resident", f.goroutines, f.descriptors, f.heap/1e6, f.resident/1e6)
}

func (w *fixture) footprint(t testing.TB) footprint {
	t.Helper()
	return footprint{w.counter(t, "go_goroutines"), w.counter(t, "process_open_fds"), w.counter(t, "go_gc_heap_live_bytes"), w.counter(t, "process_resident_memory_bytes")}
}

// collected is the footprint after a collection that began after this call: the
// first one may have begun before. Being asked makes the server allocate, which
// makes it collect.
func (w *fixture) collected(t testing.TB) footprint {
	t.Helper()
	const cycles = "go_gc_duration_seconds_count"
	before := w.counter(t, cycles)
	w.awaitLong(t, "two collections", func() bool { return w.counter(t, cycles) >= before+2 })
	return w.footprint(t)
}

// awaitLong is eventually, for what the runtime does every two minutes at least.
func (w *fixture) awaitLong(t testing.TB, what string, condition func() bool) {
	t.Helper()
	end := time.After(6 * time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("it did not happen: %s; the server holds %v", what, w.footprint(t))
		}
	}
}

// returned waits until the server's footprint is as before.
func (w *fixture) returned(t testing.TB, before footprint) {
	t.Helper()
	began := time.Now()
	w.awaitLong(t, "goroutines and descriptors are within 10 of "+before.String(), func() bool {
		f := w.footprint(t)
		return f.goroutines <= before.goroutines+10 && f.descriptors <= before.descriptors+10
	})
	w.awaitLong(t, "the live heap is within 10 % of "+before.String(), func() bool { return w.collected(t).heap <= before.heap*1.1 })
	t.Logf("before: %v\nafter:  %v, within %v", before, w.footprint(t), time.Since(began).Round(time.Millisecond))
}

// raiseFileLimit raises the number of descriptors that this process and its children may
// have, and returns how many that are.
func raiseFileLimit(t testing.TB, want uint64) uint64 {
	t.Helper()
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
	raised := syscall.Rlimit{Cur: max(want, l.Cur), Max: max(want, l.Max)}
	if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised) == nil {
		return raised.Cur
	}
	l.Cur = l.Max
	_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l) // as many as there may be
	return l.Cur
}

// newSoak is a running server without limits for one step.
func newSoak(t *testing.T, tunnel string) *fixture {
	t.Helper()
	// Collections often enough that waiting for one takes no minutes.
	w := newFixture(t, options{extra: soakLimits, env: []string{"GOGC=20"}})
	text, err := os.ReadFile(w.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.config, []byte(strings.Replace(string(text), "egress:\n", "egress:\n  tunnel: "+tunnel+"\n", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.policy, "egress", "soak.rego"), []byte("package sallyport.egress\n\n"+
		"allow contains {\"rule\": \"soak\", \"protocol\": \"any\"} if endswith(input.target.host, \".soak.example\")\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	w.start()
	return w
}

// dialFrom connects to the proxy from one of many addresses of this machine:
// each has ports of its own.
func (w *fixture) dialFrom(i int) (*net.TCPConn, error) {
	from := &net.TCPAddr{IP: net.IPv4(127, 0, 3, byte(1+i%64))}
	conn, err := (&net.Dialer{LocalAddr: from, Timeout: patience}).Dial("tcp", w.proxy)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	return conn.(*net.TCPConn), nil
}

// sendHead sends a head and returns the answer's status, and what comes behind it.
func sendHead(conn net.Conn, head string) (int, *bufio.Reader, error) {
	status, _, in, err := sendHeadFor(conn, head)
	return status, in, err
}

// sendHeadFor is sendHead, and returns the reason of a refusal too.
func sendHeadFor(conn net.Conn, head string) (status int, reason string, in *bufio.Reader, err error) {
	if _, err := io.WriteString(conn, head); err != nil {
		return 0, "", nil, err
	}
	in = bufio.NewReaderSize(conn, 512)
	resp, err := http.ReadResponse(in, &http.Request{Method: http.MethodConnect})
	if err != nil {
		return 0, "", nil, err
	}
	return resp.StatusCode, resp.Header.Get("Sallyport-Reason"), in, nil
}

// each runs f for so many numbers, so many at once, and reports the first errors.
func each(t *testing.T, n, atOnce int, f func(i int) error) {
	t.Helper()
	var next, failed atomic.Int64
	var all sync.WaitGroup
	for range atOnce {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := f(i); err != nil && failed.Add(1) <= 5 {
					t.Errorf("%d: %v", i, err)
				}
			}
		})
	}
	all.Wait()
	if n := failed.Load(); n > 0 {
		t.Fatalf("%d have failed", n)
	}
}

// TestSoakTunnels holds many idle tunnels, and sees what they cost and that all
// of it is given back.
func TestSoakTunnels(t *testing.T) {
	if soakTunnels < 1000 {
		t.Parallel()
	}
	tunnels := soakTunnels
	if have := int(raiseFileLimit(t, uint64(2*tunnels+4000))); have < 2*tunnels+600 {
		tunnels = (have - 600) / 2
		t.Logf("this process and the server may have %d descriptors each, and nobody may raise that here: %d tunnels", have, tunnels)
	}
	w := newSoak(t, "{idle_timeout: 30m}")
	var ports []string
	for range 4 {
		ports = append(ports, newTap(t, "127.0.0.1:0", discardUntilClosed).port)
	}
	c := w.anybody()
	open := func(n int) []*net.TCPConn {
		conns := make([]*net.TCPConn, n)
		each(t, n, 32, func(i int) error {
			conn, err := w.dialFrom(i)
			if err != nil {
				return err
			}
			conns[i] = conn
			status, _, err := sendHead(conn, connectTo("idle.soak.example:"+ports[i%len(ports)], c.basic()))
			if err == nil && status != 200 {
				err = fmt.Errorf("status %d", status)
			}
			return err
		})
		return conns
	}
	shut := func(conns []*net.TCPConn) {
		for _, conn := range conns {
			_ = conn.Close()
		}
		w.awaitLong(t, "the tunnels end", func() bool { return w.counter(t, "sallyport_tunnels") == 0 })
	}
	fresh := w.collected(t)
	began := time.Now()
	conns := open(tunnels)
	took := time.Since(began)
	// A tunnel is counted a moment after its client has the response.
	eventually(t, fmt.Sprint(tunnels, " tunnels are open"), func() bool { return w.counter(t, "sallyport_tunnels") == float64(tunnels) })
	held := w.collected(t)
	t.Logf("%d tunnels, open after %v: %v\neach: %.0f bytes of live heap, %.0f resident, %.1f goroutines, %.1f descriptors", tunnels, took.Round(time.Millisecond), held,
		(held.heap-fresh.heap)/float64(tunnels), (held.resident-fresh.resident)/float64(tunnels),
		(held.goroutines-fresh.goroutines)/float64(tunnels), (held.descriptors-fresh.descriptors)/float64(tunnels))
	shut(conns)
	// Go's runtime keeps what it needs to describe a goroutine for the next one,
	// and maps keep their memory: so it is what a second round adds that counts.
	w.awaitLong(t, "goroutines and descriptors are what they were", func() bool {
		f := w.footprint(t)
		return f.goroutines <= fresh.goroutines+10 && f.descriptors <= fresh.descriptors+10
	})
	before := w.collected(t)
	t.Logf("before any: %v\nafter the first round: %v", fresh, before)
	shut(open(tunnels))
	w.returned(t, before)
	w.stop()
}

// discardUntilClosed serves a target that sends nothing and keeps the connection until the
// client closes it.
func discardUntilClosed(c net.Conn) {
	_ = c.SetDeadline(time.Time{})
	_, _ = io.Copy(io.Discard, c)
}

// TestSoakCycles opens and ends connections in every way, many at once.
func TestSoakCycles(t *testing.T) {
	if soakCycles < 10_000 {
		t.Parallel()
	}
	raiseFileLimit(t, 20_000)
	w := newSoak(t, "{idle_timeout: 2s, hello_timeout: 300ms}")
	s := soak{w: w, c: w.anybody(), echo: echo(t).port, silent: newTap(t, "127.0.0.1:0", discardUntilClosed).port,
		reset: newTap(t, "127.0.0.1:0", func(c net.Conn) {
			_, _ = c.Read(make([]byte, 16))
			_ = c.(counted).SetLinger(0)
		}).port}
	each(t, 500, 64, s.cycle)
	w.awaitLong(t, "the tunnels end", func() bool { return w.counter(t, "sallyport_connections") == 0 })
	before := w.collected(t)
	began := time.Now()
	each(t, soakCycles, 128, s.cycle)
	took := time.Since(began)
	w.awaitLong(t, "the connections end", func() bool { return w.counter(t, "sallyport_connections") == 0 })
	t.Logf("%d cycles in %v, %.0f a second", soakCycles, took.Round(time.Millisecond), soakCycles/took.Seconds())
	w.returned(t, before)
	if n := w.counter(t, "sallyport_panics_total"); n != 0 {
		t.Errorf("%v connections were ended by a fault", n)
	}
	w.stop()
	testWriterEnded(t, w)
}

type soak struct {
	w                   *fixture
	c                   caller
	echo, reset, silent string
}

// cycle is one connection from its beginning to its end.
func (s *soak) cycle(i int) error {
	conn, err := s.w.dialFrom(i)
	if err != nil {
		return err
	}
	defer conn.Close()
	kind := i % 10
	switch kind {
	case 0: // gone before it has sent anything
		return nil
	case 1: // gone in the middle of its head
		_, err := io.WriteString(conn, "CONNECT echo.soak.exa")
		_ = conn.SetLinger(0)
		return err
	case 2:
		return s.status(conn, connectTo("nobody.listed.test:443", s.c.basic()), 403)
	case 3:
		return s.status(conn, connectTo("echo.soak.example:"+s.echo, ""), 407)
	case 4: // TLS that does not come
		return s.until(conn, connectTo("files.partner.example:"+s.silent, s.c.basic()), "")
	case 5: // the target sends nothing
		return s.until(conn, connectTo("silent.soak.example:"+s.silent, s.c.basic()), "hello")
	case 6: // the target breaks off
		return s.until(conn, connectTo("reset.soak.example:"+s.reset, s.c.basic()), "hello")
	case 7:
		head := "GET http://files.partner.example:" + fmt.Sprint(s.w.HTTPPort) + "/ HTTP/1.1\r\nHost: x\r\nProxy-Authorization: " + s.c.basic() + "\r\nConnection: close\r\n\r\n"
		return s.status(conn, head, 200)
	}
	status, reason, in, err := sendHeadFor(conn, connectTo("echo.soak.example:"+s.echo, s.c.basic()))
	if err != nil || status != 200 {
		return fmt.Errorf("status %d %s: %w", status, reason, err)
	}
	if _, err := io.WriteString(conn, "hello"); err != nil {
		return err
	}
	if kind == 8 { // broken off by the client
		return conn.SetLinger(0)
	}
	if err := conn.CloseWrite(); err != nil {
		return err
	}
	if back, err := io.ReadAll(in); err != nil || string(back) != "hello" {
		return fmt.Errorf("%q came back: %w", back, err)
	}
	return nil
}

func (s *soak) status(conn net.Conn, head string, want int) error {
	status, reason, _, err := sendHeadFor(conn, head)
	if err == nil && status != want {
		err = fmt.Errorf("status %d %s, not %d", status, reason, want)
	}
	return err
}

// until opens a tunnel, sends a word in it and waits for its end.
func (s *soak) until(conn net.Conn, head, word string) error {
	status, reason, in, err := sendHeadFor(conn, head)
	if err != nil || status != 200 {
		return fmt.Errorf("status %d %s: %w", status, reason, err)
	}
	_, _ = io.WriteString(conn, word) // on a busy machine the tunnel has ended before
	_, err = io.Copy(io.Discard, in)  // a reset ends it as well
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		return errors.New("the tunnel did not end")
	}
	return nil
}
