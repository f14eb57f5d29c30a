package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestNetwork sends hostile bytes to the program: request heads, bodies, TLS hellos,
// names and responses. It runs in a network namespace where every address belongs to this
// machine and every packet is captured, so that the destination of each byte is known:
// nothing arrives where policy did not allow it.
//
// Then it removes one control at a time from the program, and exactly the rows
// fail that name it. Of the other rows the short form tries some, others with
// each control, and the long form (make soak) all.
//
// Without such a network the rows run on the loopback device: connections to it are
// detected, connections to other addresses are not. The log states that.
func TestNetwork(t *testing.T) {
	if programs := os.Getenv(inside); programs != "" {
		if err := anywhere(); err != nil {
			fmt.Println(err)
			os.Exit(noNetwork)
		}
		watcher, err := watchPackets()
		if err != nil {
			fmt.Println(err)
			os.Exit(noNetwork)
		}
		builds.use(programs)
		testSpace(t, newSpace(t, watcher))
		return
	}
	t.Parallel()
	_, _, _ = sallyport(t), released(t), mutant(t)
	if made, why := enterNetwork(t, builds.directory); made {
		return
	} else {
		t.Logf("no network namespace could be made, as root or in a user namespace: %s\n"+
			"The rows run on the loopback device instead. That nothing was dialled beyond it, that other addresses are dialled "+
			"where they may be, and that each row fails without its controls, is not shown here.", why)
	}
	testSpace(t, newSpace(t, nil))
}

func testSpace(t *testing.T, s *space) {
	s.launch(t)
	rows := s.rows()
	ran := 0
	for _, r := range rows {
		if r.elsewhere && s.packets == nil {
			continue // logged above
		}
		ran++
		t.Run(r.name, func(t *testing.T) {
			began := time.Now()
			if err := s.try(r); err != nil {
				t.Errorf("%s: %v", r.source, err)
			}
			r.duration = time.Since(began)
		})
	}
	t.Logf("%d of %d rows ran", ran, len(rows))
	s.fixture.stop()
	if s.packets == nil {
		return
	}
	for turn, control := range s.controls(rows) {
		t.Run("without "+control, func(t *testing.T) { s.without(t, control, rows, turn) })
	}
}

// space is a server in a network namespace where every packet is captured.
type space struct {
	*fixture
	packets *packets // nil: on the loopback device only
	zone    *zone
	caller  caller

	public, public2, public6 string // addresses that may be reached
	tls, http, dead          string // ports of the targets; nothing listens at dead
	pseudonym                string // of the server, in Via
	taken                    string // the control that the server does without

	script  atomic.Pointer[row] // what the targets do
	targets atomic.Int64        // their connections
	marked  chan struct{}       // receives for each connection of our own, which come from marker
	mu      sync.Mutex
	arrived []*arrival // without packets
	serial  int
}

// dialled is a connection that was opened, and what its opener sent on it.
type dialled struct {
	to    netip.AddrPort
	from  net.IP
	bytes string
}

type arrival struct {
	to netip.AddrPort
	mu sync.Mutex
	b  []byte
}

// openPolicy allows much, so that it is not policy that stops what other
// controls have to stop. Its author has been careless with spellings.
const openPolicy = `package sallyport.egress

open := lower(trim_right(input.target.host, "."))

allow contains {"rule": "open"} if endswith(open, ".open.example")

allow contains {"rule": "anything", "protocol": "any"} if endswith(open, ".anything.example")

allow contains {"rule": "ech", "ech": true} if input.target.host == "ech.relaxed.example"

allow contains {"rule": "no-sni", "no_sni": true} if input.target.host == "no_sni.relaxed.example"

report contains {"rule": "observed"} if input.target.host == "report.relaxed.example"

allow contains {"rule": "by-address", "allow_ip_literal": true, "protocol": "any"} if regex.match("^[0-9a-fx.]+$|:", input.target.host)

deny contains {"rule": "blocked"} if input.target.host in {"blocked.open.example", "44.1.2.4"}
`

func newSpace(t *testing.T, watcher *packets) *space {
	t.Helper()
	o := options{
		program: sallyport(t), // the mutant for each control
		extra:   "limits: {read_header_timeout: 2s}\n",
	}
	s := &space{fixture: newFixture(t, o), packets: watcher, zone: startZone(t), marked: make(chan struct{}), public: "127.0.0.1", public2: "127.0.0.1", public6: "127.0.0.1"}
	if watcher != nil {
		// Of ranges that anybody may route. Nothing leaves this network.
		s.public, s.public2, s.public6 = "44.1.2.3", "44.1.2.4", "2a01:4f8::1"
	}
	s.DNS = s.zone.address
	s.configure(o)
	s.limit(t)
	if err := os.WriteFile(filepath.Join(s.policy, "egress", "open.rego"), []byte(openPolicy), 0o644); err != nil {
		t.Fatal(err)
	}
	s.tls, s.http = s.listen(t), s.listen(t)
	_, s.dead, _ = net.SplitHostPort(freeAddress(t))
	s.caller = s.production()
	s.fillZone()
	return s
}

// limit shortens the times for which the rows would have to wait.
func (s *space) limit(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(text), "egress:\n", "egress:\n  tunnel: {hello_timeout: 700ms}\n  connect_timeout: 3s\n", 1)
	if err := os.WriteFile(s.config, []byte(changed), 0o644); err != nil {
		t.Fatal(err)
	}
}

// listen is at every address of the space, at one port.
func (s *space) listen(t *testing.T) string {
	t.Helper()
	address := "127.0.0.1:0"
	if s.packets != nil {
		address = ":0"
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if c.RemoteAddr().(*net.TCPAddr).IP.Equal(marker) {
				_ = c.Close()
				s.marked <- struct{}{}
				continue
			}
			s.targets.Add(1)
			all.Go(func() {
				defer s.targets.Add(-1)
				defer c.Close()
				s.serve(c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		all.Wait()
	})
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// serve is what a target does: it keeps what it receives, and answers as the row
// has it.
func (s *space) serve(c *net.TCPConn) {
	wait := 10 * time.Second
	if s.taken != "" {
		wait = 1500 * time.Millisecond // possibly no other side ends what should have been cut
	}
	_ = c.SetDeadline(time.Now().Add(wait))
	to := c.LocalAddr().(*net.TCPAddr).AddrPort()
	a := &arrival{to: netip.AddrPortFrom(to.Addr().Unmap(), to.Port())}
	s.mu.Lock()
	s.arrived = append(s.arrived, a)
	s.mu.Unlock()
	in := io.TeeReader(c, a)
	answer, end := "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", "\r\n\r\n"
	if r := s.script.Load(); r != nil {
		if r.greeting != "" {
			_, _ = io.WriteString(c, r.greeting)
		}
		if r.response != "" {
			answer = r.response
		}
		if r.patient {
			end = "\r\n0\r\n\r\n"
		}
	}
	buf := make([]byte, 32<<10)
	for { // until a request's head is there, if one comes
		n, err := in.Read(buf)
		if err != nil {
			return
		}
		if n > 0 && a.contains(end) {
			break
		}
		if r := s.script.Load(); n > 0 && s.taken != "" && r != nil && r.checkSent == nil && !r.optional {
			return // nothing should have arrived: the row has failed
		}
	}
	_, _ = io.WriteString(c, answer)
	_ = c.CloseWrite()
	_, _ = io.Copy(io.Discard, in)
}

// Write keeps what has arrived.
func (a *arrival) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.b = append(a.b, p...)
	return len(p), nil
}

func (a *arrival) contains(text string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return strings.Contains(string(a.b), text)
}

var viaName = regexp.MustCompile(`Via: 1\.[01] (sallyport-[0-9a-f]+)`)

// launch starts the server, with one control removed or none.
func (s *space) launch(t *testing.T, env ...string) {
	t.Helper()
	s.server = launch(t, s.program, s.config, s.admin, env...)
	s.ready()
	s.pseudonym = "nobody"
	learn := &row{name: "learn", send: get, status: 200, dials: []string{"{public}:{http}"}, checkSent: func(b string) string {
		if m := viaName.FindStringSubmatch(b); m != nil {
			s.pseudonym = m[1]
			return ""
		}
		return "no Via in " + b
	}}
	if err := s.try(learn); err != nil {
		t.Fatal(err)
	}
}

// marker is where the test's own connections to the targets come from. They are
// accepted in turn: what came before one of them is known when it is.
var marker = net.IPv4(127, 0, 0, 77)

// settle waits until the targets know of all that has come, and are done with it.
func (s *space) settle() error {
	for _, port := range []string{s.tls, s.http} {
		conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: marker}}).Dial("tcp", net.JoinHostPort("127.0.0.1", port))
		if err != nil {
			return err
		}
		<-s.marked
		_ = conn.Close()
	}
	return s.until("the targets' connections end", func() bool { return s.targets.Load() == 0 })
}

// until polls a condition that has no notification.
func (s *space) until(what string, condition func() bool) error {
	end := time.After(15 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-end:
			return errors.New("it did not happen: " + what)
		}
	}
	return nil
}

// opened is every connection that was opened by the server on behalf of others
// since the last call, and every byte that it sent there.
func (s *space) opened() ([]dialled, error) {
	if err := s.settle(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	arrived := s.arrived
	s.arrived = nil
	s.mu.Unlock()
	if s.packets == nil {
		var all []dialled
		for _, a := range arrived {
			all = append(all, dialled{to: a.to, bytes: string(a.b)})
		}
		return all, nil
	}
	seen, err := s.packets.since()
	return slices.DeleteFunc(seen, func(d dialled) bool { return s.infrastructure(d) }), err
}

// infrastructure are the addresses that the server and this test talk to for
// themselves.
func (s *space) infrastructure(d dialled) bool {
	return d.from.Equal(marker) || slices.Contains([]string{s.proxy, s.admin, s.zone.address, strings.TrimPrefix(s.Bitbucket.BaseURL(), "http://")}, d.to.String())
}

// idle waits until the server has no connection open, and none to a target.
func (s *space) idle() error {
	return s.until("the server's connections end", func() bool {
		_, body := s.get("/metrics")
		return strings.Contains(body, "\nsallyport_connections 0\n")
	})
}
