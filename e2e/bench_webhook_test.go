package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport/sallyport/webhook"
)

// benchBody is the size of a usual push in bytes.
const benchBody = 4096

// webhookBench is a running gateway with one receiver and one endpoint of loopback.
type webhookBench struct {
	url    string
	key    webhook.Secret
	client *http.Client

	next     atomic.Int64
	mu       sync.Mutex
	awaiting map[string]chan struct{} // closed when the endpoint receives the delivery, by its hash
}

// newWebhookBench starts the gateway with a PostgreSQL that waits for the disk.
func newWebhookBench(b *testing.B) *webhookBench {
	b.Helper()
	key, err := webhook.NewSecret(forwardSecret)
	if err != nil {
		b.Fatal(err)
	}
	g := &webhookBench{key: key, awaiting: map[string]chan struct{}{}, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}}
	b.Cleanup(g.client.CloseIdleConnections)
	endpoint := httptest.NewServer(g)
	b.Cleanup(func() {
		endpoint.CloseClientConnections()
		endpoint.Close()
	})
	file := filepath.Join(b.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(forwardSecret), 0o600); err != nil {
		b.Fatal(err)
	}
	address := freeAddress(b)
	g.url = "http://" + address + "/hooks/builds"
	db, _ := newServerDatabase(b)
	w := newFixture(b, options{program: released(b), database: db, extra: fmt.Sprintf(`webhooks:
  listener: {address: %q}
  receivers:
    - {name: builds, path: /hooks/builds, kind: cloud, secret_file: %q, forward_to: [builds], requests_per_second: 100000}
  endpoints:
    - {name: builds, url: %q, allow_networks: ["127.0.0.0/8"], timeout: 5s}
`, address, file, endpoint.URL)})
	w.start()
	return g
}

// ServeHTTP is the endpoint.
func (g *webhookBench) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	_, after, _ := bytes.Cut(body, []byte(`"hash":"`))
	hash, _, _ := bytes.Cut(after, []byte(`"`))
	g.mu.Lock()
	defer g.mu.Unlock()
	if arrived := g.awaiting[string(hash)]; arrived != nil {
		delete(g.awaiting, string(hash))
		close(arrived)
	}
}

// push delivers a push of one of 100 repositories, and returns the times until the response
// and until the endpoint received it.
func (g *webhookBench) push() (accepted, arrived time.Duration, err error) {
	n := g.next.Add(1)
	hash := fmt.Sprintf("%040x", n)
	body := fmt.Sprintf(`{"actor":{},"repository":{"full_name":"acme/tools","uuid":"{22222222-0000-4000-8000-%012d}"},`+
		`"push":{"changes":[{"new":{"type":"branch","name":"main","target":{"hash":"%s"}},"old":null}]},"padding":"%s"}`, n%100, hash, strings.Repeat("x", benchBody))
	request, err := http.NewRequest(http.MethodPost, g.url, strings.NewReader(body))
	if err != nil {
		return 0, 0, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("X-Event-Key", "repo:push")
	request.Header.Set(webhook.SignatureHeader, g.key.Sign([]byte(body)).String())
	wait := make(chan struct{})
	g.mu.Lock()
	g.awaiting[hash] = wait
	g.mu.Unlock()
	began := time.Now()
	response, err := g.client.Do(request)
	if err != nil {
		return 0, 0, err
	}
	accepted = time.Since(began)
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return 0, 0, fmt.Errorf("the delivery got %s", response.Status)
	}
	select {
	case <-wait:
		return accepted, time.Since(began), nil
	case <-time.After(patience):
		return 0, 0, fmt.Errorf("delivery %s has not arrived", hash)
	}
}

// BenchmarkWebhook is the latency of a delivery of 4 KiB through the running gateway, with a
// PostgreSQL that waits for the disk: from the start of the request until the response
// (accepted), and until the endpoint on loopback has received it (arrived). Each sender waits
// for the arrival before its next delivery.
//
//	go test ./e2e -run '^$' -bench '^BenchmarkWebhook$' -benchtime 2000x
func BenchmarkWebhook(b *testing.B) {
	g := newWebhookBench(b)
	for range 100 { // streams and connections
		if _, _, err := g.push(); err != nil {
			b.Fatal(err)
		}
	}
	for _, senders := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("senders=%d", senders), func(b *testing.B) {
			var wg sync.WaitGroup
			var next atomic.Int64
			var mu sync.Mutex
			var accepted, arrived latencies
			b.ResetTimer()
			for range senders {
				wg.Go(func() {
					for next.Add(1) <= int64(b.N) {
						first, second, err := g.push()
						if err != nil {
							b.Error(err)
							return
						}
						mu.Lock()
						accepted, arrived = append(accepted, first), append(arrived, second)
						mu.Unlock()
					}
				})
			}
			wg.Wait()
			elapsed := b.Elapsed()
			if len(arrived) == 0 {
				b.Fatal("nothing arrived")
			}
			b.ReportMetric(float64(len(arrived))/elapsed.Seconds(), "deliveries/s")
			for name, of := range map[string]latencies{"accepted": accepted, "arrived": arrived} {
				b.ReportMetric(float64(of.quantile(.5).Microseconds())/1000, "ms-"+name+"-p50")
				b.ReportMetric(float64(of.p99().Microseconds())/1000, "ms-"+name+"-p99")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}
