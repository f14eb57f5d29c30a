package bench

import (
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// Load is a kind of work that clients repeat.
type Load struct {
	Name    string
	Title   string
	Clients int
	Unit    string // of the figures: tunnel, request, round trip, MiB
	// Baseline is the load that the ratios of this load compare with; empty: itself.
	Baseline string
	// WithoutDirect: the load has no meaning without a proxy.
	WithoutDirect bool
	// Refused: bare proxies refuse nothing.
	Refused bool

	tunnels int // that are open and idle; 0: the load is not about idle tunnels
	prepare func(*session) (work, error)
}

// work is what one client repeats, and how it ends.
type work struct {
	once func() error
	end  func()
}

// session is one client in one measurement.
type session struct {
	*client
	upstream *Upstream
	bytes    int64
}

// DeniedAddress is a target that the policies of the measured proxies deny. Nothing
// connects to it.
const DeniedAddress = "denied.example:443"

// Loads returns all loads, in the order in which they are measured. Idle tunnels come
// first: memory is that of a process that has done nothing else.
func Loads() []*Load {
	list := []*Load{
		{Name: "idle", Title: "memory of an idle tunnel", Unit: "tunnel", tunnels: 2000, prepare: newTunnels, WithoutDirect: true},
		{Name: "idle9000", Title: "memory of an idle tunnel, 9,000 tunnels", Unit: "tunnel", tunnels: 9000, prepare: newTunnels, WithoutDirect: true},
	}
	for _, kind := range []struct {
		name, title, unit string
		clients           []int
		prepare           func(*session) (work, error)
	}{
		{"connect", "new tunnels with one byte each", "tunnel", []int{16, 1, 64, 512}, newTunnels},
		{"echo", "round trips of 64 bytes in open tunnels", "round trip", []int{1, 16, 64, 512, 2000}, roundTrips},
		{"download", "downloads through tunnels", "MiB", []int{4}, downloads},
		{"upload", "uploads through tunnels", "MiB", []int{4}, uploads},
		{"get", "GET of plain HTTP, kept alive", "request", []int{16, 1, 64, 512}, gets},
		{"post", "POST of 16 KiB over plain HTTP, kept alive", "request", []int{16}, posts},
	} {
		for i, clients := range kind.clients {
			l := &Load{Name: kind.name, Title: kind.title, Clients: clients, Unit: kind.unit, prepare: kind.prepare}
			if i > 0 {
				l.Name += strconv.Itoa(clients)
			}
			list = append(list, l)
		}
	}
	return append(list, &Load{Name: "denied", Title: "denied requests", Clients: 16, Unit: "request", Baseline: "connect", WithoutDirect: true, Refused: true, prepare: refusals})
}

// newTunnels opens a tunnel, sends one byte each way and closes the tunnel.
func newTunnels(s *session) (work, error) {
	return work{once: func() error {
		conn, err := s.openTunnel()
		if err == nil {
			err = conn.Close()
		}
		return err
	}}, nil
}

// openTunnel opens a tunnel and sends one byte each way.
func (s *session) openTunnel() (net.Conn, error) {
	conn, refused, err := s.tunnel(s.upstream.Echo)
	if err != nil {
		return nil, err
	}
	if refused != 0 {
		return nil, fmt.Errorf("the proxy refused the tunnel with status %d", refused)
	}
	if err := roundTrip(conn, []byte{1}); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

func roundTrip(conn net.Conn, message []byte) error {
	if _, err := conn.Write(message); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, message)
	return err
}

// roundTrips sends 64 bytes each way through a tunnel that stays open.
func roundTrips(s *session) (work, error) {
	conn, err := s.openTunnel()
	if err != nil {
		return work{}, err
	}
	message := make([]byte, 64)
	return work{once: func() error { return roundTrip(conn, message) }, end: func() { _ = conn.Close() }}, nil
}

// downloads receives session.bytes through a new tunnel.
func downloads(s *session) (work, error) {
	return work{once: func() error {
		return s.transfer(s.upstream.Source, func(conn net.Conn) error { return receive(conn, s.bytes) })
	}}, nil
}

// uploads sends session.bytes through a new tunnel, and waits for the acknowledgement.
func uploads(s *session) (work, error) {
	return work{once: func() error {
		return s.transfer(s.upstream.Sink, func(conn net.Conn) error {
			if err := send(conn, s.bytes); err != nil {
				return err
			}
			return receive(conn, 1)
		})
	}}, nil
}

func (s *session) transfer(address string, copied func(net.Conn) error) error {
	conn, refused, err := s.tunnel(address)
	if err != nil {
		return err
	}
	if refused != 0 {
		return fmt.Errorf("the proxy refused the tunnel with status %d", refused)
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "%d\n", s.bytes); err != nil {
		return err
	}
	return copied(conn)
}

func gets(s *session) (work, error) {
	return work{once: func() error { return s.request("GET", s.upstream.HTTP, nil) }, end: s.close}, nil
}

func posts(s *session) (work, error) {
	content := make([]byte, 16<<10)
	return work{once: func() error { return s.request("POST", s.upstream.HTTP, content) }, end: s.close}, nil
}

// refusals requests a tunnel to [DeniedAddress] and expects status 403.
func refusals(s *session) (work, error) {
	return work{once: func() error {
		conn, refused, err := s.tunnel(DeniedAddress)
		if err != nil {
			return err
		}
		if refused != 403 {
			if conn != nil {
				_ = conn.Close()
			}
			return fmt.Errorf("the proxy did not refuse a denied target: status %d", refused)
		}
		return nil
	}}, nil
}

// measurement is one load on one target in one round. Durations are per unit.
type measurement struct {
	rate      float64 // units a second
	p50, p99  time.Duration
	processor time.Duration // of the proxy
	database  time.Duration
	memory    float64 // bytes a tunnel
}
