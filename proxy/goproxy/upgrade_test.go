package goproxy_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	library "github.com/elazarl/goproxy"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/proxytest"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

// keeping keeps the events, and bounds what it allows.
type keeping struct {
	open
	events  chan *audit.Event
	limits  policy.Limits
	tracker *proxy.Tracker
}

func newKeeping() *keeping { return &keeping{events: make(chan *audit.Event, 100)} }

func (k *keeping) Record(_ context.Context, e *audit.Event) error {
	k.events <- e
	return nil
}

func (k *keeping) Decide(context.Context, *policy.Request) (policy.Decision, error) {
	return policy.Decision{Verdict: policy.Allow, Reason: policy.PolicyAllowed, Limits: k.limits}, nil
}

// The key and its digest are RFC 6455 section 1.3's example.
const (
	handshake = "GET http://up.test:{P}/chat HTTP/1.1\r\nHost: up.test\r\nProxy-Authorization: Bearer good\r\n" +
		"Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
	agreed = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSallyport-Reason: mine\r\n\r\n"
)

// chat is a target that reads one head, keeps it, sends its response, and then sends back
// all that it gets.
func chat(t *testing.T, answer string) (port string, heads chan string) {
	t.Helper()
	heads = make(chan string, 10)
	server := proxytest.Serve(t, func(conn *net.TCPConn) {
		in := bufio.NewReader(conn)
		var head strings.Builder
		for {
			line, err := in.ReadString('\n')
			head.WriteString(line)
			if err != nil || line == "\r\n" {
				break
			}
		}
		heads <- head.String()
		_, _ = io.WriteString(conn, answer)
		_, _ = io.Copy(conn, in)
	})
	return server.Port, heads
}

func ask(t *testing.T, address, raw string) (net.Conn, *bufio.Reader, *http.Response) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, raw); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	return conn, in, resp
}

// TestWebSocket: a handshake that the target agrees to becomes a tunnel. What
// either side sends together with its head is kept, bytes are counted, a
// half-close is passed on, and the end is a request's.
func TestWebSocket(t *testing.T) {
	k := newKeeping()
	address := serveFront(t, k)
	port, heads := chat(t, agreed+"said at once ")
	conn, in, resp := ask(t, address, strings.Replace(handshake, "{P}", port, 1)+"sent at once ")
	if resp.StatusCode != 101 || resp.Header.Get("Upgrade") != "websocket" || resp.Header.Get("Connection") != "Upgrade" ||
		resp.Header.Get("Sec-WebSocket-Accept") == "" || resp.Header.Get("Via") == "" || resp.Header.Get("Sallyport-Reason") != "" || resp.Header.Get("Content-Type") != "" {
		t.Errorf("%s %v", resp.Status, resp.Header)
	}
	head := <-heads
	for _, want := range []string{"GET /chat HTTP/1.1\r\n", "\r\nConnection: Upgrade\r\n", "\r\nUpgrade: websocket\r\n", "\r\nSec-Websocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"} {
		if !strings.Contains(head, want) {
			t.Errorf("%q is not in the head that the target got:\n%s", want, head)
		}
	}
	if strings.Contains(head, "Proxy-") || strings.Contains(head, "good") {
		t.Errorf("the target got\n%s", head)
	}
	_, _ = io.WriteString(conn, "sent later")
	_ = conn.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(in); string(got) != "said at once sent at once sent later" || err != nil {
		t.Errorf("the client got %q, %v", got, err)
	}
	decision, end := <-k.events, <-k.events
	if decision.Verdict != "allow" || end.Kind != audit.KindRequestClosed || end.DecisionID != decision.DecisionID || end.UpstreamStatus != 101 ||
		end.Status != 101 || end.BytesSent != int64(len(head))+23 || end.BytesReceived != int64(len(agreed))+36 || end.CloseReason != "finished" || end.DialedAddress.String() != "127.0.0.1" {
		t.Errorf("the end is %+v", end)
	}
}

// TestWebSocketLimits: the decision's limits and an operator's word reach what a
// request has become.
func TestWebSocketLimits(t *testing.T) {
	for cause, test := range map[string]struct {
		limits policy.Limits
		do     func(*keeping, net.Conn)
	}{
		"bytes_sent_limit":     {policy.Limits{Sent: 400}, func(_ *keeping, c net.Conn) { _, _ = io.WriteString(c, strings.Repeat("too much", 50)) }},
		"bytes_received_limit": {policy.Limits{Received: 400}, func(_ *keeping, c net.Conn) { _, _ = io.WriteString(c, strings.Repeat("too much", 50)) }},
		"lifetime":             {policy.Limits{Lifetime: 200 * time.Millisecond}, func(*keeping, net.Conn) {}},
		"idle_timeout":         {policy.Limits{Idle: 100 * time.Millisecond}, func(*keeping, net.Conn) {}},
		"operator": {policy.Limits{}, func(k *keeping, _ net.Conn) {
			look := time.NewTicker(time.Millisecond)
			defer look.Stop()
			for range look.C { // it is on the list as soon as it relays
				if k.tracker.Close(proxy.CauseOperator, nil) > 0 {
					return
				}
			}
		}},
	} {
		t.Run(cause, func(t *testing.T) {
			k := newKeeping()
			k.limits = test.limits
			port, _ := chat(t, agreed)
			conn, in, resp := ask(t, serveFront(t, k), strings.Replace(handshake, "{P}", port, 1))
			if resp.StatusCode != 101 {
				t.Fatal(resp.Status)
			}
			test.do(k, conn)
			_, _ = io.Copy(io.Discard, in)
			<-k.events
			if end := <-k.events; end.CloseReason != cause || end.UpstreamStatus != 101 {
				t.Errorf("the end is %+v", end)
			}
		})
	}
	// What comes with the answer counts as well.
	k := newKeeping()
	k.limits.Received = int64(len(agreed)) + 5
	port, _ := chat(t, agreed+"too much")
	conn, err := net.Dial("tcp", serveFront(t, k))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, _ = io.WriteString(conn, strings.Replace(handshake, "{P}", port, 1))
	if got, _ := io.ReadAll(conn); !strings.HasPrefix(string(got), "HTTP/1.1 502 ") || !strings.Contains(string(got), "byte_limit") {
		t.Errorf("the client got %q", got)
	}
	<-k.events
	if end := <-k.events; end.CloseReason != "bytes_received_limit" || end.BytesReceived != k.limits.Received {
		t.Errorf("the end is %+v", end)
	}
}

// TestWebSocketRefused: an answer of 101 that does not belong to the handshake is
// none, and every other answer is an answer like any.
func TestWebSocketRefused(t *testing.T) {
	for name, answer := range map[string]string{
		"RFC 6455 4.1 another digest":   strings.Replace(agreed, "s3pP", "S3pP", 1),
		"RFC 6455 4.1 no digest":        strings.Replace(agreed, "Sec-WebSocket-Accept", "X", 1),
		"RFC 9110 7.8 another protocol": strings.Replace(agreed, "websocket", "h2c", 1),
		"RFC 9110 7.8 no protocol":      strings.Replace(agreed, "Upgrade: websocket\r\n", "", 1),
		"RFC 9110 7.8 not nominated":    strings.Replace(agreed, "Connection: Upgrade", "Connection: keep-alive", 1),
		"RFC 9110 8.6 with a length":    strings.Replace(agreed, "Sallyport-Reason: mine", "Content-Length: 5", 1),
		"RFC 9110 5.5 a control byte":   strings.Replace(agreed, "mine", "\x1b[2J", 1),
	} {
		t.Run(name, func(t *testing.T) {
			k := newKeeping()
			port, _ := chat(t, answer)
			_, _, resp := ask(t, serveFront(t, k), strings.Replace(handshake, "{P}", port, 1))
			if resp.StatusCode != 502 || resp.Header.Get("Sallyport-Reason") != "response_invalid" {
				t.Errorf("%s %v", resp.Status, resp.Header)
			}
			<-k.events
			if end := <-k.events; end.CloseReason != "response_invalid" || end.Status != 502 {
				t.Errorf("the end is %+v", end)
			}
		})
	}
	k := newKeeping()
	address := serveFront(t, k)
	port, _ := chat(t, "HTTP/1.1 403 No\r\nContent-Length: 6\r\nConnection: close\r\n\r\nnot so")
	conn, in, resp := ask(t, address, strings.Replace(handshake, "{P}", port, 1))
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 403 || string(body) != "not so" {
		t.Errorf("%s %q", resp.Status, body)
	}
	// The connection continues, and what follows is a request that is decided.
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: up.test\r\n\r\n")
	if resp, err := http.ReadResponse(in, nil); err != nil || resp.StatusCode != 400 {
		t.Errorf("%v, %v", resp, err)
	}
}

// TestHandshakeCheckIsNeeded is the attack: a target whose status a client can choose responds
// 101 and continues reading requests. The library by itself relays whatever follows, so
// that a second request gets there undecided; here it does not.
func TestHandshakeCheckIsNeeded(t *testing.T) {
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
		if _, err := http.ReadRequest(rw.Reader); err == nil {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nundecided")
		}
	}))
	defer target.Close()
	_, port, _ := net.SplitHostPort(target.Listener.Addr().String())
	attack := strings.NewReplacer("{P}", port, "up.test:", "127.0.0.1:").Replace(handshake)
	smuggled := "GET /secret HTTP/1.1\r\nHost: x\r\n\r\n"

	bare := library.NewProxyHttpServer()
	bare.Tr = &http.Transport{}
	defer bare.Tr.CloseIdleConnections()
	plain := httptest.NewServer(bare)
	defer plain.Close()
	conn, in, resp := ask(t, plain.Listener.Addr().String(), attack)
	_, _ = io.WriteString(conn, smuggled)
	if second, err := http.ReadResponse(in, nil); resp.StatusCode != 101 || err != nil || second.StatusCode != 200 || second.ContentLength != 9 {
		t.Errorf("without the control: %s, %v, %v", resp.Status, second, err)
	}

	k := newKeeping()
	conn, in, resp = ask(t, serveFront(t, k), strings.Replace(handshake, "{P}", port, 1))
	_, _ = io.WriteString(conn, smuggled)
	if got, _ := io.ReadAll(in); resp.StatusCode != 502 || strings.Contains(string(got), "undecided") {
		t.Errorf("with it: %s, %q", resp.Status, got)
	}
}
