package frontend

import (
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/sallyport/sallyport/proxy"
)

// response is the response to one request. It writes directly to the connection: the head
// is sent together with the first bytes of content, and each later Write has sent its
// bytes when it returns.
type response struct {
	c      *conn
	body   *body
	header http.Header
	method string
	close  bool // the connection ends after this response

	mu      sync.Mutex // the head, and 100 Continue in front of it
	wrote   bool
	status  int
	framing framing
	length  int64 // of the content, where it was announced
	written int64
	trailer []string // announced names

	pending  []byte // head bytes that are not sent yet
	finished bool
	broken   bool
	refusal  *proxy.Refusal
	switched *switched
}

// framing is how the client finds the end of a response (RFC 9112 section 6.3).
type framing uint8

const (
	noContent framing = iota
	byLength
	byChunks
	byClose
)

var (
	errAnswered  = errors.New("frontend: the answer is complete")
	errTooLong   = errors.New("frontend: the answer is longer than its Content-Length")
	continueLine = []byte("HTTP/1.1 100 Continue\r\n\r\n")
	crlf         = []byte("\r\n")
)

// Header returns the fields of the answer, until they are written.
func (w *response) Header() http.Header { return w.header }

// proceed sends the client 100 Continue (RFC 9110 section 10.1.1), unless the response
// has begun.
func (w *response) proceed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.wrote {
		return nil
	}
	_, err := w.send(continueLine)
	return err
}

// send writes to the client within the time for one write.
func (w *response) send(b []byte) (n int, err error) {
	if err := w.arm(); err != nil {
		return 0, err
	}
	n, err = w.c.stream.Write(b)
	w.broken = w.broken || err != nil
	return n, err
}

// sendAll writes all parts, with one system call where the connection can.
func (w *response) sendAll(parts net.Buffers) error {
	if err := w.arm(); err != nil {
		return err
	}
	_, err := parts.WriteTo(w.c.stream)
	w.broken = w.broken || err != nil
	return err
}

func (w *response) arm() error {
	if w.broken {
		return io.ErrClosedPipe
	}
	return w.c.stream.SetWriteDeadline(time.Now().Add(w.c.server.config.WriteTimeout))
}
