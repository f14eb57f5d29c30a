package e2e

import (
	"bufio"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// rawResponse is the proxy's response to a request that was written byte by byte.
type rawResponse struct {
	*http.Response
	line string // the status line
	body string // of a refusal
	conn net.Conn
	in   *bufio.Reader // what comes behind the head of a 200
}

// sendRaw writes raw bytes to an address and reads one response.
func sendRaw(t testing.TB, address, head string) *rawResponse {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return sendRawOn(t, conn, head)
}

func sendRawOn(t testing.TB, conn net.Conn, head string) *rawResponse {
	t.Helper()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, head); err != nil {
		t.Fatal(err)
	}
	a := &rawResponse{conn: conn, in: bufio.NewReader(conn)}
	method, _, _ := strings.Cut(head, " ")
	peeked, _ := a.in.Peek(1)
	if len(peeked) > 0 {
		peeked, _ = a.in.Peek(a.in.Buffered())
	}
	a.line, _, _ = strings.Cut(string(peeked), "\r\n")
	var err error
	if a.Response, err = http.ReadResponse(a.in, &http.Request{Method: method}); err != nil {
		t.Fatalf("no answer to %q: %v", firstLine(head), err)
	}
	if a.StatusCode == http.StatusOK && method == "CONNECT" {
		return a
	}
	// net/http reads the response to a CONNECT as one without content.
	if method == "CONNECT" {
		body, err := io.ReadAll(a.in)
		if err != nil {
			t.Fatalf("read the refusal to its end: %v", err)
		}
		a.body = string(body)
		return a
	}
	body, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	a.body = string(body)
	return a
}

func firstLine(head string) string {
	line, _, _ := strings.Cut(head, "\r\n")
	return line
}

// connectTo is the head of a CONNECT with a credential, which may be empty.
func connectTo(target, credential string) string {
	head := "CONNECT " + target + " HTTP/1.1\r\nHost: " + target + "\r\n"
	if credential != "" {
		head += "Proxy-Authorization: " + credential + "\r\n"
	}
	return head + "\r\n"
}

func (c caller) basic() string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte("step:"+c.token))
}

// connect sends a CONNECT to the fixture's proxy.
func (w *fixture) connect(t testing.TB, c caller, target string) *rawResponse {
	t.Helper()
	return sendRaw(t, w.proxy, connectTo(target, c.basic()))
}

// tunnel opens a tunnel that must be allowed.
func (w *fixture) tunnel(t testing.TB, c caller, target string) *rawResponse {
	t.Helper()
	a := w.connect(t, c, target)
	if a.StatusCode != http.StatusOK {
		t.Fatalf("CONNECT %s: %s %s", target, a.line, a.body)
	}
	return a
}

var uuidv7 = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

// refused checks everything that a refusal has to report, and returns its decision id.
func (a *rawResponse) refused(t testing.TB, status int, reason string) string {
	t.Helper()
	if a.StatusCode != status || a.Header.Get("Sallyport-Reason") != reason {
		t.Fatalf("answered %q with reason %q, want %d %s\n%s", a.line, a.Header.Get("Sallyport-Reason"), status, reason, a.body)
	}
	id := a.Header.Get("Sallyport-Decision")
	if !strings.HasSuffix(a.line, " Sallyport "+reason) {
		t.Errorf("status line %q does not name the reason", a.line)
	}
	if ps := a.Header.Get("Proxy-Status"); !strings.HasPrefix(ps, "sallyport; error=") || !strings.Contains(ps, `"`+reason+`"`) {
		t.Errorf("Proxy-Status is %q", ps)
	}
	if !strings.HasPrefix(a.body, "sallyport: "+reason) || strings.Count(a.body, "\n") != 1 ||
		!strings.Contains(a.body, "What to do: ") || !strings.Contains(a.body, id) {
		t.Errorf("the body is %q", a.body)
	}
	want := ""
	if status == http.StatusProxyAuthRequired {
		want = `Bearer realm="sallyport", error="invalid_token"`
		if reason == "credential_missing" {
			want = `Basic realm="sallyport"`
		}
	}
	if challenge := a.Header.Get("Proxy-Authenticate"); challenge != want {
		t.Errorf("Proxy-Authenticate is %q with status %d and reason %s, want %q", challenge, status, reason, want)
	}
	if !a.Close {
		t.Error("the refusal does not close the connection")
	}
	if id != "" && !uuidv7.MatchString(id) {
		t.Errorf("the decision id is %q", id)
	}
	return id
}

// visit is one run of the real curl.
type visit struct {
	exit    int
	connect string // the status that the proxy answered a CONNECT with
	status  string // and the one of the request
	body    string
	verbose string // with the proxy's head in it
}

// curl runs curl through the proxy, which is an URL with a credential.
func (w *fixture) curl(t testing.TB, proxy string, args ...string) visit {
	t.Helper()
	body := filepath.Join(t.TempDir(), "body")
	all := append([]string{"--verbose", "--silent", "--show-error", "--max-time", "40", "--cacert", w.CAFile,
		"--output", body, "--write-out", "%{http_connect} %{http_code}"}, args...)
	cmd := exec.CommandContext(t.Context(), "curl", all...)
	cmd.Env = environment("HTTPS_PROXY="+proxy, "https_proxy="+proxy, "http_proxy="+proxy)
	exit, out, verbose := execute(t, cmd)
	content, err := os.ReadFile(body)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	connect, status, _ := strings.Cut(out, " ")
	return visit{exit, connect, status, string(content), verbose}
}

// environment is the test's without what would lead a client elsewhere.
func environment(more ...string) []string {
	var env []string
	for _, e := range os.Environ() {
		name, _, _ := strings.Cut(strings.ToLower(e), "=")
		elsewhere := strings.HasSuffix(name, "_proxy") || strings.HasPrefix(name, "npm_config") || strings.HasPrefix(name, "git_") ||
			strings.Contains(name, "ssl_c") || strings.Contains(name, "ca_bundle") || strings.Contains(name, "ca_certs")
		if !elsewhere {
			env = append(env, e)
		}
	}
	return append(env, more...)
}

// header is a field of the proxy's answer, from curl's verbose output.
func (v visit) header(name string) string {
	for line := range strings.Lines(v.verbose) {
		field, value, found := strings.Cut(strings.TrimPrefix(line, "< "), ":")
		if found && strings.EqualFold(field, name) {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// refused checks what curl -v showed of a refused CONNECT.
func (v visit) refused(t testing.TB, status, reason string) string {
	t.Helper()
	if v.exit != 56 || v.connect != status || v.header("Sallyport-Reason") != reason ||
		!strings.Contains(v.verbose, "HTTP/1.1 "+status+" Sallyport "+reason) {
		t.Fatalf("curl ended with %d after %s, want 56 after %s %s\n%s", v.exit, v.connect, status, reason, v.verbose)
	}
	return v.header("Sallyport-Decision")
}

// tap is a target that reports what arrives, and answers as its handler does.
type tap struct {
	host     string // as an address of the machine
	port     string
	arrivals chan struct{} // one for each connection, as far as there is room

	mu    sync.Mutex
	bytes int
}

// newTap listens on a loopback address. Each connection is given to handle,
// behind a count of what is read off it; nil reads to the end.
func newTap(t testing.TB, address string, handle func(net.Conn)) *tap {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	p := &tap{arrivals: make(chan struct{}, 64)}
	p.host, p.port, err = net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if handle == nil {
		handle = func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			select {
			case p.arrivals <- struct{}{}:
			default: // no test counts so many
			}
			all.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(patience))
				handle(counted{c.(*net.TCPConn), p})
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		all.Wait()
	})
	return p
}

// counted counts what is read.
type counted struct {
	*net.TCPConn
	tap *tap
}

// Read reads and counts.
func (c counted) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	c.tap.mu.Lock()
	defer c.tap.mu.Unlock()
	c.tap.bytes += n
	return n, err
}

// WriteTo hides the connection's own, which would not be counted.
func (c counted) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{c})
}

func (p *tap) received() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bytes
}

// untouched fails when anything has connected. The caller has received the answer
// of an attempt already, so that a connection would have come before.
func (p *tap) untouched(t testing.TB) {
	t.Helper()
	select {
	case <-p.arrivals:
		t.Error("the target was connected to")
	default:
	}
}
