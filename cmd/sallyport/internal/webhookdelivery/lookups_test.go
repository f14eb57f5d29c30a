package webhookdelivery

import (
	"context"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/internal/fair"
	"github.com/sallyport/sallyport/proxy/dns"
	"github.com/sallyport/sallyport/webhook"
)

// nameServer answers that no name exists (RFC 1035 section 4.1.1), and does not answer for
// names that begin with slow. asked receives a value for each query of those.
func nameServer(t *testing.T) (address string, asked <-chan struct{}) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	slow := make(chan struct{}, 100)
	go func() {
		query := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFrom(query)
			if err != nil {
				return
			}
			if strings.Contains(string(query[:n]), "\x04slow") {
				slow <- struct{}{}
				continue
			}
			query[2], query[3] = query[2]|0x80, query[3]&0xf0|0x03
			_, _ = conn.WriteTo(query[:n], from)
		}
	}()
	return conn.LocalAddr().String(), slow
}

// TestNamesOfAnotherEndpoint: an endpoint whose name is not answered uses its own share of
// lookups. With one share for all, another endpoint is refused.
func TestNamesOfAnotherEndpoint(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		other string
		want  string
	}{"own share": {"fast", "does not exist"}, "needed": {"slow", "too many"}} {
		address, asked := nameServer(t)
		resolver, err := dns.New(dns.Config{
			Servers: []string{address}, Timeout: time.Minute, AttemptTimeout: time.Minute,
			Lookups: fair.Config{Step: fair.Limit{Slots: 1}, Repository: fair.Limit{Slots: 1}, Total: fair.Limit{Slots: 8}},
		})
		if err != nil {
			t.Fatal(err)
		}
		send := func(ctx context.Context, endpoint, host string) string {
			sender, err := newSender(config.WebhookEndpoint{Name: endpoint, URL: &url.URL{Scheme: "http", Host: host, Path: "/"}, Timeout: time.Minute}, nil, resolver, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer sender.Close()
			return sender.Send(ctx, webhook.Task{Body: []byte("{}")}).Cause()
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { send(ctx, "slow", "slow.example.com") })
		<-asked
		if cause := send(t.Context(), c.other, "fast.example.com"); !strings.Contains(cause, c.want) {
			t.Errorf("%s: %s", name, cause)
		}
		cancel()
		wg.Wait()
	}
}
