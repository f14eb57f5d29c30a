package forwarder

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/elazarl/goproxy"

	"github.com/sallyport/sallyport/internal/proxytest"
	"github.com/sallyport/sallyport/step/internal/steptest"
)

// BenchmarkTunnel measures the time from the tool's connection to the response to its
// CONNECT: directly to Sallyport with TLS, through this forwarder, and through bare goproxy
// as a forwarder, with and without a TLS session cache. Each iteration runs all of them in
// turn, so that other work on the machine delays them equally: one tunnel after a pause,
// one after the other without a pause, and 64 at once. The processor time is that of the
// whole process: tool, forwarder, Sallyport and target.
//
//	go test -run xxx -bench Tunnel -benchtime 40x ./step/forwarder
func BenchmarkTunnel(b *testing.B) {
	s := steptest.Start(b)
	target := "allowed.test:" + proxytest.Serve(b, proxytest.Echo).Port
	pem, err := os.ReadFile(s.CAFile)
	if err != nil {
		b.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	client := &tls.Config{RootCAs: roots}
	resuming := client.Clone()
	resuming.ClientSessionCache = tls.NewLRUClientSessionCache(64)
	e := startAt(b, s, nil)
	ways := []*way{
		{name: "direct", open: direct(b, s, client)},
		{name: "direct-resuming", open: direct(b, s, resuming)},
		{name: "forwarder", open: plain(b, e.address)},
		{name: "goproxy", open: plain(b, bareGoproxy(b, s, client))},
		{name: "goproxy-resuming", open: plain(b, bareGoproxy(b, s, resuming))},
	}
	for _, load := range []struct {
		name         string
		many, rounds int
	}{
		{"one", 1, 1},
		{"one-by-one", 1, 10},
		{"64-at-once", 64, 1},
	} {
		b.Run(load.name, func(b *testing.B) {
			for _, w := range ways {
				w.took, w.cpu = nil, 0
			}
			for i := 0; b.Loop(); i++ {
				for j := range ways {
					w := ways[(i+j)%len(ways)] // each is once the first
					w.measure(load.many, load.rounds, func() { openTunnel(b, w.open(), target) })
				}
			}
			for _, w := range ways {
				w.report(b)
			}
		})
	}
}

// way is one way to a target.
type way struct {
	name string
	open func() net.Conn

	mu   sync.Mutex
	took []time.Duration
	cpu  time.Duration
}

// settle is the time for what a way does after its tunnels are open, such as filling a
// pool: its processor time counts, and does not delay the next way.
const settle = 20 * time.Millisecond

// measure runs do many times at once, in some rounds without a pause.
func (w *way) measure(many, rounds int, do func()) {
	before := processorTime()
	for range rounds {
		var group sync.WaitGroup
		for range many {
			group.Go(func() {
				began := time.Now()
				do()
				took := time.Since(began)
				w.mu.Lock()
				defer w.mu.Unlock()
				w.took = append(w.took, took)
			})
		}
		group.Wait()
	}
	time.Sleep(settle)
	w.cpu += processorTime() - before
}

// report reports the median and the 95th percentile of the durations, and the processor
// time of one tunnel.
func (w *way) report(b *testing.B) {
	slices.Sort(w.took)
	b.ReportMetric(0, "ns/op") // of all ways together
	b.ReportMetric(float64(w.took[len(w.took)/2].Microseconds()), w.name+"-µs-median")
	b.ReportMetric(float64(w.took[len(w.took)*95/100].Microseconds()), w.name+"-µs-p95")
	b.ReportMetric(float64(w.cpu.Microseconds())/float64(len(w.took)), w.name+"-µs-cpu")
}

// processorTime is that of this process so far.
func processorTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// direct connects to Sallyport itself.
func direct(b *testing.B, s *steptest.Server, config *tls.Config) func() net.Conn {
	return func() net.Conn {
		c, err := tls.Dial("tcp", strings.TrimPrefix(s.URL, "https://"), config)
		if err != nil {
			b.Error(err)
			return nil
		}
		return c
	}
}

// plain connects to a forwarder.
func plain(b *testing.B, address string) func() net.Conn {
	return func() net.Conn {
		c, err := net.Dial("tcp", address)
		if err != nil {
			b.Error(err)
			return nil
		}
		return c
	}
}

// bareGoproxy runs goproxy with nothing but the address of the next proxy and the token.
func bareGoproxy(b *testing.B, s *steptest.Server, config *tls.Config) (address string) {
	library := goproxy.NewProxyHttpServer()
	library.Tr = &http.Transport{TLSClientConfig: config}
	library.ConnectDial = library.NewConnectDialToProxyWithHandler(s.URL, func(r *http.Request) {
		r.Header.Set("Proxy-Authorization", "Bearer "+steptest.Token)
	})
	server := httptest.NewServer(library)
	b.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// openTunnel sends a CONNECT, and closes the connection after the response.
func openTunnel(b *testing.B, c net.Conn, target string) {
	if c == nil {
		return
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, "CONNECT "+target+" HTTP/1.1\r\nHost: "+target+"\r\nProxy-Authorization: Bearer "+steptest.Token+"\r\n\r\n"); err != nil {
		b.Error(err)
		return
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: http.MethodConnect})
	if err != nil || resp.StatusCode != http.StatusOK {
		b.Errorf("%v, %v", resp, err)
	}
}
