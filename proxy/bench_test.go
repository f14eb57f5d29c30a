package proxy

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/fair"
	"github.com/sallyport/sallyport/internal/proxytest"
	"github.com/sallyport/sallyport/policy"
)

// nothing answers at once, so that what is measured is the gate.
type nothing struct {
	principal *identity.Principal
	decision  policy.Decision
	addrs     []netip.Addr
}

func (n *nothing) Authenticate(context.Context, identity.Credential) (*identity.Principal, error) {
	return n.principal, nil
}
func (n *nothing) Decide(context.Context, *policy.Request) (policy.Decision, error) {
	return n.decision, nil
}
func (n *nothing) AvailableTo(audit.Source) error             { return nil }
func (n *nothing) Record(context.Context, *audit.Event) error { return nil }
func (n *nothing) Resolve(context.Context, fair.Subject, string) ([]netip.Addr, error) {
	return n.addrs, nil
}

func nothingGate(b *testing.B, log *slog.Logger) *Gate {
	w := newEnv()
	n := &nothing{w.principal, w.decision, []netip.Addr{netip.MustParseAddr("127.0.0.1")}}
	n.decision.Protocol = policy.ProtocolAny
	g, err := NewGate(Config{Authenticator: n, Decider: n, Recorder: n, Resolver: n, Guard: loopback, Log: log})
	if err != nil {
		b.Fatal(err)
	}
	return g
}

func BenchmarkAdmit(b *testing.B) {
	for kind, log := range map[string]*slog.Logger{
		"no log": nil, "text log": slog.New(slog.NewTextHandler(io.Discard, nil)), "json log": slog.New(slog.NewJSONHandler(io.Discard, nil)),
	} {
		b.Run(kind, func(b *testing.B) {
			g := nothingGate(b, log)
			a := attempt(name)
			b.ReportAllocs()
			for b.Loop() {
				admission, refusal := g.Admit(b.Context(), a)
				if refusal != nil {
					b.Fatal(refusal)
				}
				admission.Close(Outcome{Cause: CauseFinished})
			}
		})
	}
}

// BenchmarkTunnel opens a tunnel between connections that are there, carries a
// byte each way and ends it. "bare" does the same with two io.Copy.
func BenchmarkTunnel(b *testing.B) {
	g, tr := nothingGate(b, nil), NewTracker(TunnelConfig{})
	for kind, run := range map[string]func(client, upstream *net.TCPConn){
		"ours": func(client, upstream *net.TCPConn) {
			a, _ := g.Admit(b.Context(), attempt(name))
			tr.Run(a, client, nil, upstream)
		},
		"bare": bareTunnel,
	} {
		b.Run(kind, func(b *testing.B) {
			front, back := proxytest.Listen(b, "127.0.0.1:0"), proxytest.Listen(b, "127.0.0.1:0")
			b.ReportAllocs()
			for b.Loop() {
				client, stream := connected(b, front)
				upstream, target := connected(b, back)
				done := make(chan struct{})
				go func() { run(stream, upstream); close(done) }()
				buf := []byte{1}
				pingPong(b, client, target, buf)
				_, _ = client.Close(), target.Close()
				<-done
			}
		})
	}
}

func bareTunnel(client, upstream *net.TCPConn) {
	done := make(chan struct{})
	go func() {
		_, _ = io.Copy(client, upstream)
		_ = client.CloseWrite()
		close(done)
	}()
	_, _ = io.Copy(upstream, client)
	_ = upstream.CloseWrite()
	<-done
	_, _ = client.Close(), upstream.Close()
}

func pingPong(b *testing.B, client, target io.ReadWriter, buf []byte) {
	for _, way := range [][2]io.ReadWriter{{client, target}, {target, client}} {
		if _, err := way[0].Write(buf); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(way[1], buf); err != nil {
			b.Fatal(err)
		}
	}
}

// eachCarrier runs a benchmark in an open tunnel, ours and a bare one.
func eachCarrier(b *testing.B, f func(b *testing.B, client, target *net.TCPConn)) {
	g, tr := nothingGate(b, nil), NewTracker(TunnelConfig{})
	for _, kind := range []string{"ours", "bare"} {
		b.Run(kind, func(b *testing.B) {
			front, back := proxytest.Listen(b, "127.0.0.1:0"), proxytest.Listen(b, "127.0.0.1:0")
			client, stream := connected(b, front)
			upstream, target := connected(b, back)
			done := make(chan struct{})
			go func() {
				defer close(done)
				if kind == "bare" {
					bareTunnel(stream, upstream)
					return
				}
				a, _ := g.Admit(b.Context(), attempt(name))
				tr.Run(a, stream, nil, upstream)
			}()
			b.ReportAllocs()
			f(b, client, target)
			_, _ = client.Close(), target.Close()
			<-done
		})
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	eachCarrier(b, func(b *testing.B, client, target *net.TCPConn) {
		buf := make([]byte, 64)
		for b.Loop() {
			pingPong(b, client, target, buf)
		}
	})
}

func BenchmarkBulk(b *testing.B) {
	eachCarrier(b, func(b *testing.B, client, target *net.TCPConn) {
		block := make([]byte, 1<<20)
		b.SetBytes(int64(len(block)))
		drained := make(chan struct{})
		go func() {
			defer close(drained)
			buf := make([]byte, 256<<10)
			for {
				if _, err := target.Read(buf); err != nil {
					return
				}
			}
		}()
		for b.Loop() {
			if _, err := client.Write(block); err != nil {
				b.Fatal(err)
			}
		}
		_ = client.CloseWrite()
		<-drained
	})
}
