package proxy

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/proxytest"
	"github.com/sallyport/sallyport/policy"
)

const targetName = "target.example"

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// tunnelEnv is one tunnel between two real connections.
type tunnelEnv struct {
	t        testing.TB
	w        *env
	tracker  *Tracker
	client   Stream       // the client's own end
	target   *net.TCPConn // the target's own end
	stream   Stream       // what the tunnel is given
	upstream Stream
	admitted *Admission
	early    []byte
	ended    chan Outcome
}

type tunnelOption func(*tunnelEnv)

func withDecision(change func(*policy.Decision)) tunnelOption {
	return func(r *tunnelEnv) { change(&r.w.decision) }
}

func withLimits(l policy.Limits) tunnelOption {
	return withDecision(func(d *policy.Decision) { d.Limits = l })
}

func withConfig(c TunnelConfig) tunnelOption {
	return func(r *tunnelEnv) { r.tracker = NewTracker(c) }
}

func withTracker(tr *Tracker) tunnelOption { return func(r *tunnelEnv) { r.tracker = tr } }

func withEarly(b []byte) tunnelOption { return func(r *tunnelEnv) { r.early = b } }

// checked leaves the ClientHello check on; other tunnels carry anything.
func checked(r *tunnelEnv) { r.w.decision.Protocol = policy.ProtocolTLS }

// onTLS puts the client behind a TLS listener.
func onTLS(r *tunnelEnv) {
	certificate, _ := proxytest.Certificate(r.t, targetName)
	server := tls.Server(r.stream, &tls.Config{Certificates: []tls.Certificate{certificate}})
	client := tls.Client(r.client, &tls.Config{InsecureSkipVerify: true})
	done := make(chan error, 1)
	go func() { done <- server.Handshake() }()
	if err := errors.Join(client.Handshake(), <-done); err != nil {
		r.t.Fatal(err)
	}
	r.client, r.stream = client, server
}

// connected returns both ends of a TCP connection.
func connected(t testing.TB, l *net.TCPListener) (a, b *net.TCPConn) {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

// newTunnelEnv goes the whole way: admitted by a gate, dialed by its dialer. start runs it.
func newTunnelEnv(t testing.TB, options ...tunnelOption) *tunnelEnv {
	t.Helper()
	front, back := proxytest.Listen(t, "127.0.0.1:0"), proxytest.Listen(t, "127.0.0.1:0")
	defer front.Close()
	defer back.Close()
	return newTunnelEnvOn(t, front, back, options...)
}

// newTunnelEnvOn does the same with listeners that no other test uses meanwhile.
func newTunnelEnvOn(t testing.TB, front, back *net.TCPListener, options ...tunnelOption) *tunnelEnv {
	t.Helper()
	r := &tunnelEnv{t: t, w: newEnv(), tracker: NewTracker(TunnelConfig{}), ended: make(chan Outcome, 1)}
	r.client, r.stream = func() (Stream, Stream) { a, b := connected(t, front); return a, b }()
	r.w.decision.Protocol = policy.ProtocolAny
	r.w.guard = loopback
	r.w.addrs = []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	for _, o := range options {
		o(r)
	}
	a, refusal := r.w.gate(t).Admit(t.Context(), attempt(fmt.Sprintf("%s:%d", targetName, addrPort(back.Addr()).Port())))
	if refusal != nil {
		t.Fatalf("refused: %+v", refusal)
	}
	r.admitted = a
	if r.upstream, refusal = a.Dial(t.Context()); refusal != nil {
		t.Fatalf("not dialed: %+v", refusal)
	}
	target, err := back.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	r.target = target
	return r
}

func (r *tunnelEnv) start() *tunnelEnv {
	r.t.Cleanup(func() {
		_ = r.target.Close()
		_ = tcpOf(r.client).Close()
	})
	deadline := time.Now().Add(2 * patience)
	_ = r.client.SetDeadline(deadline)
	_ = r.target.SetDeadline(deadline)
	go func() { r.ended <- r.tracker.Run(r.admitted, r.stream, r.early, r.upstream) }()
	return r
}

// tunnel is a tunnelEnv that runs.
func openTunnel(t testing.TB, options ...tunnelOption) *tunnelEnv {
	t.Helper()
	return newTunnelEnv(t, options...).start()
}

// outcome waits for the end, and checks that the log has the same.
func (r *tunnelEnv) outcome() Outcome {
	r.t.Helper()
	select {
	case o := <-r.ended:
		events := r.w.events()
		if e := events[len(events)-1]; len(events) != 2 || e.CloseReason != string(o.Cause) || e.BytesSent != o.Sent || e.BytesReceived != o.Received || !e.DialedAddress.IsLoopback() {
			r.t.Errorf("the log holds %+v, the outcome is %+v", events, o)
		}
		return o
	case <-time.After(patience):
		r.t.Fatal("the tunnel does not end")
		return Outcome{}
	}
}

func (r *tunnelEnv) wantOutcome(cause Cause, sent, received int64) {
	r.t.Helper()
	want := Outcome{Sent: sent, Received: received, Cause: cause}
	if o := r.outcome(); o != want {
		r.t.Errorf("ended with %+v, want %+v", o, want)
	}
}

func write(t testing.TB, w io.Writer, b []byte) {
	t.Helper()
	if _, err := w.Write(b); err != nil {
		t.Errorf("write: %v", err)
	}
}

func wantRead(t testing.TB, r io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(r, got); err != nil || string(got) != want {
		t.Fatalf("read %q, %v; want %q", got, err, want)
	}
}

// wantEOF holds that the connection ended in order.
func wantEOF(t testing.TB, r io.Reader) {
	t.Helper()
	if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("read %d, %v; want the end", n, err)
	}
}

// wantReset holds that the connection was cut, and that it shows.
func wantReset(t testing.TB, r io.Reader) {
	t.Helper()
	if _, err := io.Copy(io.Discard, r); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read: %v; want a reset", err)
	}
}

// reset breaks a connection off with a RST.
func reset(t testing.TB, c Stream) {
	t.Helper()
	if err := errors.Join(tcpOf(c).SetLinger(0), tcpOf(c).Close()); err != nil {
		t.Error(err)
	}
}
