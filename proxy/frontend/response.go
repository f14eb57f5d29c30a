package frontend

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

// response is the answer to one request. It writes straight to the connection:
// the head goes out together with the first bytes of content, and each Write
// after that is on its way when it returns.
type response struct {
	c      *conn
	body   *body
	header http.Header
	method string
	close  bool // the connection ends behind this answer

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

// framing is how the client finds the end of an answer (RFC 9112 section 6.3).
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

// serve lets the forwarder answer, completes the answer, and reports whether the
// connection can carry another request.
func (w *response) serve(f Forwarder, r *http.Request, a *proxy.Admission) (again bool) {
	// After a panic the body may be in use still; the connection is closed then.
	defer w.body.abandonUnless(&again)
	f.Forward(w, r, a)
	if w.switched != nil {
		return false // and is not over: the caller hands the connection on
	}
	w.Finish()
	if w.refusal != nil {
		w.body.abandon()
		w.c.linger()
		return false
	}
	if w.broken {
		return false
	}
	if !w.body.abandon() || w.close {
		if w.body.c.stream.SetReadDeadline(time.Time{}) == nil {
			w.c.linger()
		}
		return false
	}
	return true
}

// abandonUnless is for a deferred call.
func (b *body) abandonUnless(again *bool) {
	if !*again {
		b.abandon()
	}
}

// Header returns the fields of the answer, until they are written.
func (w *response) Header() http.Header { return w.header }

// proceed tells the client to send its body (RFC 9110 section 10.1.1), unless it
// has its answer already.
func (w *response) proceed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.wrote {
		return nil
	}
	_, err := w.send(continueLine)
	return err
}

// WriteHeader decides on the framing. Interim statuses are ignored: the only one
// that this proxy sends is its own 100 Continue.
func (w *response) WriteHeader(status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if status >= 100 && status < 200 {
		return
	}
	w.writeHeader(status)
}

func (w *response) writeHeader(status int) {
	if w.wrote {
		return
	}
	w.wrote, w.status = true, status
	// A client that was not told to continue may send its body or not: the next
	// bytes have two readings.
	if w.body.pending() || w.c.server.isClosing() {
		w.close = true
	}
	w.chooseFraming()
	w.pending = w.appendHead(make([]byte, 0, 1024))
}

// Write sends content, with the head in front of it if that has not gone yet.
func (w *response) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.finished:
		return 0, errAnswered
	case !w.wrote:
		w.writeHeader(http.StatusOK)
	}
	if w.framing == noContent {
		return 0, http.ErrBodyNotAllowed
	}
	if len(p) == 0 {
		return 0, nil
	}
	if w.framing == byLength && w.written+int64(len(p)) > w.length {
		w.broken = true
		return 0, errTooLong
	}
	if err := w.sendContent(p); err != nil {
		return 0, err
	}
	w.written += int64(len(p))
	return len(p), nil
}

// together is how much is copied to spare a system call.
const together = 16 << 10

func (w *response) sendContent(p []byte) error {
	front := w.pending
	w.pending = nil
	var tail []byte
	if w.framing == byChunks {
		front = strconv.AppendInt(front, int64(len(p)), 16)
		front = append(front, "\r\n"...)
		tail = crlf
	}
	var err error
	switch {
	case len(front) == 0:
		_, err = w.send(p)
	case len(front)+len(p) <= together:
		_, err = w.send(append(append(front, p...), tail...))
	default:
		err = w.sendAll(net.Buffers{front, p, tail})
	}
	return err
}

// Flush sends the head if it was written and is still here.
func (w *response) Flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.finished && len(w.pending) > 0 {
		_, _ = w.send(w.pending)
		w.pending = nil
	}
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

// Finish ends the answer. What is missing of an announced length is missing for
// the client too: the connection breaks.
func (w *response) Finish() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.finished {
		return
	}
	if !w.wrote {
		w.refuse(proxy.NewRefusal(policy.InternalError, "the request got no answer"))
		return
	}
	w.finished = true
	if w.framing == byLength && w.written < w.length {
		w.broken = true
		return
	}
	end := w.pending
	w.pending = nil
	if w.framing == byChunks {
		end = append(end, "0\r\n"...)
		end = w.appendTrailer(end)
		end = append(end, "\r\n"...)
	}
	if len(end) > 0 {
		_, _ = w.send(end)
	}
}

// Refuse answers with a refusal where nothing was sent yet, and otherwise breaks
// off: the client must not take half an answer for a whole one.
func (w *response) Refuse(r *proxy.Refusal) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refuse(r)
}

func (w *response) refuse(r *proxy.Refusal) {
	if w.finished {
		return
	}
	if w.wrote && len(w.pending) == 0 {
		w.finished, w.broken = true, true
		return
	}
	w.wrote, w.status, w.refusal, w.close = true, r.Status, r, true
	w.pending = nil
	_, _ = w.send(appendRefusal(nil, r, w.c.answerTo(w.c.server.config.Name, w.c.minor, w.method == http.MethodHead)))
	w.finished = true
}

// Abort breaks the connection off.
func (w *response) Abort() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.finished, w.broken = true, true
	w.pending = nil
}
