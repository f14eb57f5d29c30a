package e2e

import (
	"bufio"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

func testTLSListener(t *testing.T, w *fixture) {
	c := w.production()
	v := w.curl(t, "https://step:"+c.token+"@"+w.tlsProxy, "--proxy-cacert", w.CAFile, w.https("api.partner.example", "/over-tls"))
	if v.exit != 0 || v.status != "200" || !strings.Contains(v.body, "saw GET /over-tls") {
		t.Fatalf("curl ended with %d: %q\n%s", v.exit, v.body, v.verbose)
	}
	row := w.decision(t, c)
	w.both(t, row, fields{"verdict": "allow", "rule": "partner-api", "listener": w.tlsProxy})
	orderly(t, row)

	by := w.caller(w.Payments, nil, "feature/x")
	v = w.curl(t, "https://step:"+by.token+"@"+w.tlsProxy, "--proxy-cacert", w.CAFile, w.https("api.partner.example", "/"))
	id := v.refused(t, "403", "no_rule_matched")
	w.both(t, w.decision(t, by), fields{"decision_id": id, "verdict": "deny", "listener": w.tlsProxy})

	// A client that does not speak TLS there gets nothing out of it.
	conn, err := net.Dial("tcp", w.tlsProxy)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	plain := w.production()
	_, _ = io.WriteString(conn, connectTo("api.partner.example:443", plain.basic()))
	if output, _ := io.ReadAll(conn); strings.Contains(string(output), "200") {
		t.Errorf("a plain CONNECT on the TLS listener was answered %q", output)
	}
	if rows := w.decisions(t, plain.step.UUID); len(rows) != 0 {
		t.Errorf("it was decided: %v", rows)
	}
}

// large is more than fits into any buffer on the way.
const large = 24 << 20

// noise is the same bytes for the same length.
func noise(n int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{'s', 'a', 'l', 'l', 'y'}), n)
}

func serveBytes(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.ParseInt(r.PathValue("n"), 10, 64)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	_, _ = io.Copy(w, noise(n)) // a client that has gone is its own affair
}

// digest answers with the SHA-256 of the body.
func digest(w http.ResponseWriter, r *http.Request) {
	h := sha256.New()
	n, err := io.Copy(h, r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Fprintf(w, "%d %x\n", n, h.Sum(nil))
}

func testLarge(t *testing.T, w *fixture) {
	h := sha256.New()
	file := filepath.Join(t.TempDir(), "upload")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.MultiWriter(h, f), noise(large)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	want := hex.EncodeToString(h.Sum(nil))
	for _, url := range []string{w.https("files.partner.example", ""), w.http("files.partner.example", "")} {
		down, up := w.anybody(), w.anybody()
		v := w.curl(t, down.proxyURL(w.proxy), url+"/bytes/"+strconv.Itoa(large))
		if got := sha256.Sum256([]byte(v.body)); v.exit != 0 || hex.EncodeToString(got[:]) != want {
			t.Fatalf("download from %s: curl ended with %d, %d bytes with digest %x\n%s", url, v.exit, len(v.body), got, v.verbose)
		}
		row := w.decision(t, down)
		w.both(t, row, fields{"verdict": "allow"})
		orderly(t, row)
		if received, _ := row["bytes_received"].(float64); received < large || received > large*1.05 {
			t.Errorf("%s: received is %v of %d", url, row["bytes_received"], large)
		}
		v = w.curl(t, up.proxyURL(w.proxy), "--upload-file", file, url+"/digest")
		if v.exit != 0 || v.body != fmt.Sprintf("%d %s\n", large, want) {
			t.Fatalf("upload to %s: curl ended with %d: %q\n%s", url, v.exit, v.body, v.verbose)
		}
		row = w.decision(t, up)
		w.both(t, row, fields{"verdict": "allow"})
		orderly(t, row)
		if sent, _ := row["bytes_sent"].(float64); sent < large || sent > large*1.05 {
			t.Errorf("%s: sent is %v of %d", url, row["bytes_sent"], large)
		}
	}
}

// testHalfClose: a client that ends its side still gets the answer, on both
// kinds of listener, and what it sent together with its CONNECT arrives.
func testHalfClose(t *testing.T, w *fixture) {
	target := newTap(t, "127.0.0.1:0", func(c net.Conn) {
		question, err := io.ReadAll(c)
		if err == nil {
			fmt.Fprintf(c, "answer to %q", question)
		}
	})
	for _, secure := range []bool{false, true} {
		c := w.anybody()
		var conn net.Conn
		var err error
		if secure {
			config := w.authority(t)
			conn, err = tls.Dial("tcp", w.tlsProxy, config)
		} else {
			conn, err = net.Dial("tcp", w.proxy)
		}
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		a := sendRawOn(t, conn, connectTo("raw.partner.example:"+target.port, c.basic())+"early, ")
		if a.StatusCode != http.StatusOK {
			t.Fatalf("%s %s", a.line, a.body)
		}
		if _, err := io.WriteString(conn, "and late"); err != nil {
			t.Fatal(err)
		}
		if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(a.in)
		if err != nil || string(got) != `answer to "early, and late"` {
			t.Fatalf("TLS=%t: got %q, %v", secure, got, err)
		}
		w.both(t, w.decision(t, c), fields{"verdict": "allow", "rule": "raw", "close_reason": "finished",
			"bytes_sent": len("early, and late"), "bytes_received": len(got), "scheme": nil})
	}
}

// websocketEcho is as much of RFC 6455 as it takes: the handshake, and bytes.
func websocketEcho(w http.ResponseWriter, r *http.Request) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
	_, _ = io.Copy(conn, buffered)
}

func testWebSocket(t *testing.T, w *fixture) {
	c := w.anybody()
	target := "files.partner.example:" + strconv.Itoa(w.HTTPSPort)
	a := w.tunnel(t, c, target)
	config := w.authority(t)
	config.ServerName = "files.partner.example"
	conn := tls.Client(a.conn, config)
	const hello = "GET /websocket HTTP/1.1\r\nHost: files.partner.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
	if _, err := io.WriteString(conn, hello); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("the upgrade: %v, %v", resp, err)
	}
	for i := range 3 {
		frame := fmt.Sprintf("frame %d", i)
		if _, err := io.WriteString(conn, frame); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(frame))
		if _, err := io.ReadFull(in, got); err != nil || string(got) != frame {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	_ = conn.Close()
	w.both(t, w.decision(t, c), fields{"verdict": "allow", "host": "files.partner.example"})
}

// testHelloMismatch: a tunnel to one name must not carry TLS for another. The
// target is connected to, and gets not one byte.
func testHelloMismatch(t *testing.T, w *fixture) {
	target := newTap(t, "127.0.0.1:0", nil)
	c := w.production()
	v := w.curl(t, c.proxyURL(w.proxy), "--connect-to", "other.example:443:api.partner.example:"+target.port, "https://other.example/")
	if v.connect != "200" || v.exit != 35 {
		t.Fatalf("curl ended with %d after %s\n%s", v.exit, v.connect, v.verbose)
	}
	if !strings.Contains(v.verbose, "unrecognized name") {
		t.Errorf("curl was not told why:\n%s", v.verbose)
	}
	row := w.decision(t, c)
	w.both(t, row, fields{"verdict": "allow", "host": "api.partner.example", "close_reason": "hello_mismatch", "bytes_sent": 0, "bytes_received": 0})
	line := w.log.wait(t, "the tunnel's end", message("tunnel_closed", fields{"decision_id": row["decision_id"]}))
	check(t, "log line", line, fields{"close_reason": "hello_mismatch", "bytes_sent": 0})
	<-target.arrivals
	if n := target.received(); n != 0 {
		t.Errorf("the target got %d bytes", n)
	}
}

func testNotTLS(t *testing.T, w *fixture) {
	target := newTap(t, "127.0.0.1:0", nil)
	c := w.production()
	a := w.tunnel(t, c, "api.partner.example:"+target.port)
	if _, err := io.WriteString(a.conn, "SSH-2.0-not_tls\r\n"); err != nil {
		t.Fatal(err)
	}
	if got, _ := io.ReadAll(a.in); len(got) != 0 {
		t.Errorf("the tunnel answered %q", got)
	}
	w.both(t, w.decision(t, c), fields{"verdict": "allow", "close_reason": "hello_invalid", "bytes_sent": 0})
	if n := target.received(); n != 0 {
		t.Errorf("the target got %d bytes", n)
	}
}

// testMany: many tunnels and requests at once, each with its decision and its end.
func testMany(t *testing.T, w *fixture) {
	const workers, each = 12, 10
	target := echo(t)
	c := w.anybody()
	var all sync.WaitGroup
	failed := make(chan string, workers*each)
	for worker := range workers {
		all.Go(func() {
			for i := range each {
				if err := visitOnce(w.proxy, "raw.partner.example:"+target.port, c, fmt.Sprintf("%d of %d", i, worker)); err != nil {
					failed <- err.Error()
				}
			}
		})
	}
	all.Wait()
	close(failed)
	for why := range failed {
		t.Error(why)
	}
	for _, row := range w.closed(t, c, workers*each) {
		if row["verdict"] != "allow" || row["close_reason"] != "finished" || row["bytes_sent"] != row["bytes_received"] {
			t.Errorf("the row of one is %v", row)
		}
	}
}

// visitOnce opens a tunnel to an echo, sends a word and reads it back.
func visitOnce(proxy, target string, c caller, word string) error {
	conn, err := net.Dial("tcp", proxy)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, connectTo(target, c.basic())); err != nil {
		return err
	}
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, &http.Request{Method: http.MethodConnect})
	if err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("CONNECT: %v, %w", resp, err)
	}
	if _, err := io.WriteString(conn, word); err != nil {
		return err
	}
	got := make([]byte, len(word))
	if _, err := io.ReadFull(in, got); err != nil || string(got) != word {
		return fmt.Errorf("said %q, heard %q: %w", word, got, err)
	}
	return nil
}
