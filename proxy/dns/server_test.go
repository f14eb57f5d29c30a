package dns

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is a real DNS server on loopback, over UDP and TCP on one port.
type server struct {
	addr string

	mu    sync.Mutex
	asked []string // transport, type and name of each question
}

// zone answers one question; reply already repeats it.
type zone func(w mdns.ResponseWriter, reply *mdns.Msg, request *mdns.Msg)

// serve starts a server that ends with the test.
func serve(t *testing.T, handle zone) *server {
	t.Helper()
	packets, listener := listenBoth(t)
	s := &server{addr: packets.LocalAddr().String()}
	handler := mdns.HandlerFunc(func(w mdns.ResponseWriter, request *mdns.Msg) {
		q := request.Question[0]
		s.mu.Lock()
		s.asked = append(s.asked, w.RemoteAddr().Network()+" "+mdns.TypeToString[q.Qtype]+" "+q.Name)
		s.mu.Unlock()
		reply := new(mdns.Msg).SetReply(request)
		reply.RecursionAvailable = true
		handle(w, reply, request)
	})
	for _, srv := range []*mdns.Server{{PacketConn: packets, Handler: handler}, {Listener: listener, Handler: handler}} {
		started, ended := make(chan struct{}), make(chan error, 1)
		srv.NotifyStartedFunc = func() { close(started) }
		go func() { ended <- srv.ActivateAndServe() }()
		<-started
		t.Cleanup(func() {
			_ = srv.Shutdown()
			<-ended
		})
	}
	return s
}

// listenBoth finds a port that is free for UDP and TCP.
func listenBoth(t *testing.T) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 50 {
		packets, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listener, err := net.Listen("tcp", packets.LocalAddr().String())
		if err == nil {
			return packets, listener
		}
		_ = packets.Close()
	}
	t.Fatal("no port is free for both UDP and TCP")
	return nil, nil
}

// questions returns what was asked so far.
func (s *server) questions() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.asked...)
}

// records answers with those of the given records whose type was asked for,
// aliases included.
func records(t *testing.T, texts ...string) zone {
	t.Helper()
	var all []mdns.RR
	for _, text := range texts {
		all = append(all, record(t, text))
	}
	return func(w mdns.ResponseWriter, reply, request *mdns.Msg) {
		for _, rr := range all {
			if kind := rr.Header().Rrtype; kind == request.Question[0].Qtype || kind == mdns.TypeCNAME {
				reply.Answer = append(reply.Answer, rr)
			}
		}
		_ = w.WriteMsg(reply)
	}
}

// rcode answers with a code alone.
func rcode(code int) zone {
	return func(w mdns.ResponseWriter, reply, _ *mdns.Msg) {
		reply.Rcode = code
		_ = w.WriteMsg(reply)
	}
}

// silent never answers.
func silent(mdns.ResponseWriter, *mdns.Msg, *mdns.Msg) {}

// record reads a record in the zone file's text.
func record(t testing.TB, text string) mdns.RR {
	t.Helper()
	rr, err := mdns.NewRR(text)
	if err != nil {
		t.Fatal(err)
	}
	return rr
}

// resolver makes a resolver that asks the given servers.
func resolver(t *testing.T, config Config, servers ...*server) *Resolver {
	t.Helper()
	for _, s := range servers {
		config.Servers = append(config.Servers, s.addr)
	}
	r, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// addrs reads addresses.
func addrs(texts ...string) []netip.Addr {
	var list []netip.Addr
	for _, text := range texts {
		list = append(list, netip.MustParseAddr(text))
	}
	return list
}

// kindIn returns the kind of an error that Resolve returned.
func kindIn(t *testing.T, err error) Kind {
	t.Helper()
	if err == nil {
		return ""
	}
	e, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatalf("%v (%T) is not an *Error", err, err)
	}
	return e.Kind
}

// scripted makes a resolver whose servers are a function, for tests of time.
func scripted(t *testing.T, config Config, say func(ctx context.Context, server netip.AddrPort, q question) (answer, error)) *Resolver {
	t.Helper()
	if config.Servers == nil {
		config.Servers = []string{"192.0.2.53:53"}
	}
	r, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	r.exchange = say
	return r
}

// just answers A with one address and a TTL, and AAAA with nothing.
func just(addr string, ttl time.Duration) func(context.Context, netip.AddrPort, question) (answer, error) {
	return func(_ context.Context, _ netip.AddrPort, q question) (answer, error) {
		if q.qtype == mdns.TypeA {
			return answer{addrs: addrs(addr), ttl: ttl}, nil
		}
		return answer{ttl: time.Hour}, nil
	}
}
