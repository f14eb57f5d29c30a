package forwarder

import (
	"bufio"
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sallyport/sallyport/step/internal/steptest"
	"github.com/sallyport/sallyport/step/token"
	"github.com/sallyport/sallyport/step/upstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = time.Minute

// env is a forwarder in front of a real Sallyport.
type env struct {
	*Forwarder
	sallyport *steptest.Server
	address   string
	log       *output // of the forwarder and the client
	printed   *output // the lines of refusals
}

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

type (
	upstreamConfig = upstream.Config
	refusal        = upstream.Refusal
)

func static(t testing.TB, text string) token.Source {
	t.Helper()
	parsed, err := token.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return token.Static(parsed)
}

// start runs a forwarder until the test ends.
func start(t testing.TB, change func(*Config, *upstream.Config)) *env {
	t.Helper()
	return startAt(t, steptest.Start(t), change)
}

func startAt(t testing.TB, s *steptest.Server, change func(*Config, *upstream.Config)) *env {
	t.Helper()
	e := &env{sallyport: s, log: &output{}, printed: &output{}}
	log := slog.New(slog.NewTextHandler(e.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	uc := upstream.Config{Proxies: []string{s.URL}, CAFile: s.CAFile, Token: static(t, steptest.Token), Log: log}
	c := Config{Admit: Users(), Log: log, Refused: func(r Refusal) { _, _ = io.WriteString(e.printed, r.Line()) }}
	if change != nil {
		change(&c, &uc)
	}
	client, err := upstream.New(uc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	if c.Upstream == nil {
		c.Upstream = client
	}
	if e.Forwarder, err = New(c); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e.address = l.Addr().String()
	served := make(chan error, 1)
	go func() { served <- e.Serve(l) }()
	t.Cleanup(func() {
		e.Close()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return e
}

// tool is a raw connection of a tool.
type tool struct {
	t testing.TB
	*net.TCPConn
	r *bufio.Reader
}

func (e *env) dial(t testing.TB) *tool {
	t.Helper()
	c, err := net.Dial("tcp", e.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return newTool(t, c)
}

func newTool(t testing.TB, c net.Conn) *tool {
	return &tool{t, c.(*net.TCPConn), bufio.NewReader(c)}
}

func (c *tool) send(raw string) *tool {
	c.t.Helper()
	if _, err := io.WriteString(c.TCPConn, raw); err != nil {
		c.t.Fatalf("send: %v", err)
	}
	return c
}

// answer reads one response with its content.
func (c *tool) answer(method string) (*http.Response, string) {
	c.t.Helper()
	resp, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		c.t.Fatalf("no answer: %v", err)
	}
	if method == http.MethodConnect && resp.StatusCode == 200 {
		return resp, ""
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatalf("the answer ends early: %v", err)
	}
	return resp, string(body)
}

// rest reads until the forwarder ends the connection.
func (c *tool) rest() string {
	c.t.Helper()
	b, err := io.ReadAll(c.r)
	if err != nil {
		c.t.Fatalf("the connection did not end in order: %v (after %q)", err, b)
	}
	return string(b)
}

// expect reads exactly these bytes.
func (c *tool) expect(want string) {
	c.t.Helper()
	b := make([]byte, len(want))
	if _, err := io.ReadFull(c.r, b); err != nil || string(b) != want {
		c.t.Fatalf("read %q, %v, want %q", b, err, want)
	}
}

func port(address string) string {
	_, p, _ := net.SplitHostPort(address)
	return p
}

// line returns the only line of the output that contains text.
func (o *output) line(t testing.TB, text string) string {
	t.Helper()
	var found []string
	for l := range strings.Lines(o.String()) {
		if strings.Contains(l, text) {
			found = append(found, l)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d lines contain %q:\n%s", len(found), text, o.String())
	}
	return found[0]
}
