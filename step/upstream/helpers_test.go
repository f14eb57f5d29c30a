package upstream

import (
	"bytes"
	"log/slog"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sallyport/sallyport/step/internal/steptest"
	"github.com/sallyport/sallyport/step/token"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = time.Minute

// output collects what several goroutines write.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func static(t testing.TB, text string) token.Source {
	t.Helper()
	parsed, err := token.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return token.Static(parsed)
}

// client returns a client of a server, until the test ends.
func client(t testing.TB, s *steptest.Server, change func(*Config)) *Client {
	t.Helper()
	c := Config{Proxies: []string{s.URL}, CAFile: s.CAFile, Token: static(t, steptest.Token), Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&c)
	}
	client, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// len returns the number of ready connections.
func (p *pool) len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.ready)
}
