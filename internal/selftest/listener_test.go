package selftest

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/proxytest"
)

// TestProbeReachesOnlyItsOwnListener: a probe shows its token only to this process's
// listener: with TLS, only to a server with the certificate that the listener serves at
// the moment. Where the listener requires a PROXY protocol header, the probe sends one.
func TestProbeReachesOnlyItsOwnListener(t *testing.T) {
	ownCertificate, _ := proxytest.Certificate(t, "egress.acme.example")
	foreignCertificate, _ := proxytest.Certificate(t, "egress.acme.example")
	own, foreign := &ownCertificate, &foreignCertificate
	serves := func(c *tls.Certificate) *tls.Config {
		return &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c, nil }}
	}
	for name, c := range map[string]struct {
		config, served *tls.Config
		balancer       bool
		well           bool
	}{
		"plain":             {nil, nil, false, true},
		"TLS":               {serves(own), serves(own), false, true},
		"TLS, another's":    {serves(own), serves(foreign), false, false},
		"behind a balancer": {nil, nil, true, true},
		"both":              {serves(own), serves(own), true, true},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			listener := Listener{Address: l.Addr().(*net.TCPAddr).AddrPort(), TLS: c.config}
			if c.balancer {
				listener.ProxyProtocolFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
			}
			received := make(chan string, 1)
			go func() {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
				sent := ""
				if c.balancer { // a byte at a time, for what follows is TLS
					b := make([]byte, 1)
					for !strings.HasSuffix(sent, "\r\n") {
						if _, err := conn.Read(b); err != nil {
							return
						}
						sent += string(b)
					}
				}
				if c.served != nil {
					conn = tls.Server(conn, c.served)
				}
				line, _ := bufio.NewReader(conn).ReadString('\n')
				received <- sent + line
			}()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			conn, from, err := listener.Dial(ctx)
			if (err == nil) != c.well {
				t.Fatalf("got %v", err)
			}
			if err != nil {
				return
			}
			defer conn.Close()
			if from != netip.MustParseAddr("127.0.0.1") {
				t.Errorf("from %v", from)
			}
			if _, err := fmt.Fprint(conn, "CONNECT\n"); err != nil {
				t.Fatal(err)
			}
			want := "CONNECT\n"
			if c.balancer {
				local := conn.LocalAddr().(*net.TCPAddr)
				want = fmt.Sprintf("PROXY TCP4 127.0.0.1 127.0.0.1 %d %d\r\n", local.Port, l.Addr().(*net.TCPAddr).Port) + want
			}
			if got := <-received; got != want {
				t.Errorf("heard %q, want %q", got, want)
			}
		})
	}
	if _, _, err := (Listener{}).Dial(t.Context()); err == nil {
		t.Error("the zero listener was dialed")
	}
}
