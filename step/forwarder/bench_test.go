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
	"testing"
	"time"

	"github.com/elazarl/goproxy"

	"github.com/sallyport/sallyport/internal/proxytest"
	"github.com/sallyport/sallyport/step/internal/steptest"
)

// BenchmarkTunnel measures the time from the tool's connection to the response to its
// CONNECT, directly to Sallyport with TLS, through this forwarder, and through bare goproxy
// as a forwarder: for one tunnel with a pause before it, for one after the other without a
// pause, and for 64 at once.
//
//	go test -run xxx -bench Tunnel -count 5 ./step/forwarder
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
	for _, way := range []struct {
		name string
		open func() net.Conn
	}{
		{"direct", direct(b, s, client)},
		{"direct-resuming", direct(b, s, resuming)},
		{"forwarder", plain(b, e.address)},
		{"goproxy", plain(b, bareGoproxy(b, s, client))},
		{"goproxy-resuming", plain(b, bareGoproxy(b, s, resuming))},
	} {
		open := func() { openTunnel(b, way.open(), target) }
		b.Run(way.name+"/one", func(b *testing.B) { measure(b, 1, func() { time.Sleep(5 * time.Millisecond) }, open) })
		b.Run(way.name+"/one-by-one", func(b *testing.B) { measure(b, 1, func() {}, open) })
		b.Run(way.name+"/64-at-once", func(b *testing.B) { measure(b, 64, func() {}, open) })
	}
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

// measure runs do many times at once in each iteration, after a pause, and reports the
// median and the 95th percentile of its duration.
func measure(b *testing.B, many int, pause, do func()) {
	var mu sync.Mutex
	var all []time.Duration
	for b.Loop() {
		pause()
		var group sync.WaitGroup
		for range many {
			group.Go(func() {
				began := time.Now()
				do()
				took := time.Since(began)
				mu.Lock()
				defer mu.Unlock()
				all = append(all, took)
			})
		}
		group.Wait()
	}
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Microseconds()), "µs-median")
	b.ReportMetric(float64(all[len(all)*95/100].Microseconds()), "µs-p95")
}
