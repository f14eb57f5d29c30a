package forwarder

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/proxytest"
	"github.com/sallyport/sallyport/step/internal/steptest"
	"github.com/sallyport/sallyport/step/peeruid"
	"github.com/sallyport/sallyport/step/portforward"
)

// TestProbesAreNotRefused: a connection that its peer ends without a byte, as nc -z does, is
// not a refusal, although its user cannot be determined any more. One with a request is.
func TestProbesAreNotRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, sent  string
		linger      bool
		wantRefused bool
	}{
		{"closed", "", true, false},
		{"reset", "", false, false},
		{"request", "GET http://a.test/ HTTP/1.1\r\n\r\n", true, true},
	} {
		closed := make(chan struct{})
		e := start(t, func(config *Config, _ *upstreamConfig) {
			config.peerUID = func(conn net.Conn) (uint32, error) {
				<-closed
				return peeruid.Of(conn)
			}
		})
		tool := e.dial(t)
		tool.send(c.sent)
		if !c.linger {
			_ = tool.SetLinger(0)
		}
		_ = tool.Close()
		proxytest.Eventually(t, "the connection is accepted", func() bool { return e.open() == 1 })
		close(closed)
		proxytest.Eventually(t, "the connection has ended", func() bool { return e.open() == 0 })
		if refused := strings.Contains(e.printed.String(), "peer_not_admitted"); refused != c.wantRefused || len(e.Report().Refusals) > 0 != c.wantRefused {
			t.Errorf("%s: refused %t: %s", c.name, refused, e.printed.String())
		}
	}
}

// open returns how many connections are open that net/http does not serve.
func (e *env) open() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.conns)
}

// forwardPort serves a forwarded port of a forwarder, and returns its address.
func forwardPort(t *testing.T, e *env, target string) string {
	t.Helper()
	l := proxytest.Listen(t, "127.0.0.1:0")
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() {
		served <- portforward.Serve(ctx, l, target, portforward.Config{
			Admit: e.Admit,
			Connect: func(ctx context.Context, target string) (portforward.Stream, error) {
				return e.Connect(ctx, target)
			},
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// TestForwardedPort: a forwarded port is served as a CONNECT is. A denial is remembered and
// printed once, and so is a user that is not admitted.
func TestForwardedPort(t *testing.T) {
	t.Parallel()
	e := start(t, nil)
	at := *e
	at.address = forwardPort(t, e, "allowed.test:"+proxytest.Serve(t, proxytest.Echo).Port)
	tool := at.dial(t)
	tool.send("hello").expect("hello")
	_ = tool.Close()
	proxytest.Eventually(t, "the bytes of the tunnel are counted", func() bool {
		r := e.Report()
		return len(r.Targets) == 1 && r.Targets[0].BytesSent == 5 && r.Targets[0].BytesReceived == 5 && r.Targets[0].Allowed == 1
	})
	at.address = forwardPort(t, e, steptest.Denied+":5432")
	for range 3 {
		if b, err := io.ReadAll(at.dial(t).r); len(b) > 0 || err != nil {
			t.Errorf("read %q, %v", b, err)
		}
	}
	e.printed.line(t, "denied denied.test:5432: policy_denied")
	if n := e.sallyport.Decisions(); n != 2 {
		t.Errorf("%d decisions, want one for each target", n)
	}
	for range 3 {
		if b, err := io.ReadAll(at.asUser(t, stranger).r); len(b) > 0 || err != nil {
			t.Errorf("another user: read %q, %v", b, err)
		}
	}
	e.printed.line(t, "denied user 65533: peer_not_admitted")
	if n := e.sallyport.Decisions(); n != 2 {
		t.Errorf("%d decisions: a connection of another user was sent", n)
	}
}
