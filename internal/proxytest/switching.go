package proxytest

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
)

// Switching returns the URL of a server that answers each request with 101 Switching
// Protocols, although the client did not request that, and then keeps the connection open
// until the test ends.
func Switching(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer func() { _ = conn.Close() }()
				if req, err := http.ReadRequest(bufio.NewReader(conn)); err != nil || drain(req.Body) != nil {
					return
				}
				_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
				<-stop
			})
		}
	})
	t.Cleanup(func() {
		close(stop)
		_ = l.Close()
		running.Wait()
	})
	return "http://" + l.Addr().String()
}

func drain(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}
