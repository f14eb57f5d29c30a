package bench

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// patience bounds each connection of a client. No measurement comes near it.
const patience = 60 * time.Second

// client is one client of a target. It is for one goroutine.
type client struct {
	target     *Target
	credential string
	kept       net.Conn // of requests, between two of them
	reader     *bufio.Reader
}

func (t *Target) client(i int) *client {
	c := &client{target: t}
	if len(t.Credentials) > 0 {
		c.credential = "Proxy-Authorization: " + t.Credentials[i%len(t.Credentials)] + "\r\n"
	}
	return c
}

// connect opens a connection to the proxy, or to the address where there is none.
func (c *client) connect(address string) (net.Conn, error) {
	if c.target.Proxy != "" {
		address = c.target.Proxy
	}
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return nil, err
	}
	if c.target.Proxy != "" && c.target.TLS != nil {
		conn = tls.Client(conn, c.target.TLS)
	}
	return conn, conn.SetDeadline(time.Now().Add(patience))
}

// tunnel opens a tunnel to an address. status is that of a refusal, 0 if the tunnel is
// open.
func (c *client) tunnel(address string) (conn net.Conn, status int, err error) {
	conn, err = c.connect(address)
	if err != nil || c.target.Proxy == "" {
		return conn, 0, err
	}
	status, err = c.open(conn, address)
	if err != nil || status != 0 {
		_ = conn.Close()
		conn = nil
	}
	return conn, status, err
}

// open sends the CONNECT and reads the response.
func (c *client) open(conn net.Conn, address string) (refused int, err error) {
	if _, err := io.WriteString(conn, "CONNECT "+address+" HTTP/1.1\r\nHost: "+address+"\r\n"+c.credential+"\r\n"); err != nil {
		return 0, err
	}
	// The upstream sends nothing before the client does: what a read returns is the response.
	head := make([]byte, 0, 4096)
	for !bytes.Contains(head, []byte("\r\n\r\n")) {
		n, err := conn.Read(head[len(head):cap(head)])
		if head = head[:len(head)+n]; err != nil {
			return 0, fmt.Errorf("read the response to CONNECT: %w", err)
		}
		if len(head) == cap(head) {
			break
		}
	}
	status, err := statusOf(string(head))
	if err == nil && status == 200 {
		status = 0
	}
	return status, err
}

// statusOf is the status in the first line of a response (RFC 9112 section 4).
func statusOf(head string) (int, error) {
	line, _, _ := strings.Cut(head, "\r\n")
	_, rest, _ := strings.Cut(line, " ")
	digits, _, _ := strings.Cut(rest, " ")
	status, err := strconv.Atoi(digits)
	if err != nil || !strings.HasPrefix(line, "HTTP/1.") {
		return 0, fmt.Errorf("the response starts with %q", line)
	}
	return status, nil
}

// request sends a request for an http:// URL over a connection that is kept, and reads
// the response to its end. If the proxy closed that connection meanwhile, request opens
// another one (RFC 9112 section 9.3.1).
func (c *client) request(method, address string, body []byte) error {
	again := c.kept != nil
	err := c.requestOnce(method, address, body)
	if again && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)) {
		err = c.requestOnce(method, address, body)
	}
	return err
}

func (c *client) requestOnce(method, address string, body []byte) error {
	if c.kept == nil {
		conn, err := c.connect(address)
		if err != nil {
			return err
		}
		c.kept, c.reader = conn, bufio.NewReader(conn)
	}
	uri, credential := "/page", ""
	if c.target.Proxy != "" {
		uri, credential = "http://"+address+"/page", c.credential
	}
	head := method + " " + uri + " HTTP/1.1\r\nHost: " + address + "\r\nUser-Agent: bench\r\n" + credential
	if body != nil {
		head += "Content-Length: " + strconv.Itoa(len(body)) + "\r\n"
	}
	_, err := c.kept.Write(append([]byte(head+"\r\n"), body...))
	keep := false
	if err == nil {
		keep, err = readResponse(c.reader)
	}
	if err != nil || !keep {
		c.close()
	}
	return err
}

// readResponse reads a response with status 200, and reports whether the connection can be
// used again.
func readResponse(r *bufio.Reader) (keep bool, err error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return false, err
	}
	status, err := statusOf(strings.TrimSuffix(line, "\n"))
	if err == nil && status != 200 {
		err = fmt.Errorf("the response has status %d", status)
	}
	length := int64(-1)
	keep = strings.HasPrefix(line, "HTTP/1.1")
	for err == nil {
		if line, err = r.ReadString('\n'); err != nil || line == "\r\n" {
			break
		}
		name, value, _ := strings.Cut(line, ":")
		switch value = strings.TrimSpace(value); {
		case strings.EqualFold(name, "Content-Length"):
			length, err = strconv.ParseInt(value, 10, 64)
		case strings.EqualFold(name, "Connection"), strings.EqualFold(name, "Proxy-Connection"):
			keep = strings.EqualFold(value, "keep-alive") || keep && !strings.EqualFold(value, "close")
		case strings.EqualFold(name, "Transfer-Encoding"):
			err = errors.New("the response has a transfer coding, which this client cannot read")
		}
	}
	if err != nil {
		return false, err
	}
	if length < 0 {
		_, err = io.Copy(io.Discard, r)
		return false, err
	}
	_, err = io.CopyN(io.Discard, r, length)
	return keep, err
}

func (c *client) close() {
	if c.kept != nil {
		_ = c.kept.Close()
		c.kept = nil
	}
}
