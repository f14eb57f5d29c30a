package frontend

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

// body is a request's content. Another goroutine than the one that serves the connection
// may read it, and may still do so when the response is complete: abandon ends that.
type body struct {
	c      *conn
	answer continuer

	mu      sync.Mutex // held while the connection is read
	chunks  *chunked   // nil: length bytes
	left    int64
	expect  bool // the client waits for 100 Continue
	done    bool // read to its end
	failed  error
	expired bool // no more reads
	over    bool // abandoned
}

// continuer sends the interim response 100 Continue (RFC 9110 section 10.1.1).
type continuer interface {
	proceed() error
}

// bodyTimeout is the error of a body whose next byte did not arrive in time.
type bodyTimeout struct {
	after time.Duration
	err   error
}

func (e *bodyTimeout) Error() string {
	return fmt.Sprintf("frontend: the request's body stalled for %s: %v", e.after, e.err)
}

func (e *bodyTimeout) Unwrap() error { return e.err }

// Refusal is the answer of the forwarder (RFC 9110 section 15.5.9).
func (e *bodyTimeout) Refusal() *proxy.Refusal {
	return proxy.NewRefusal(policy.BodyTimeout, fmt.Sprintf("no byte of the request's body arrived for %s", e.after))
}

func newBody(c *conn, h *head, answer continuer) *body {
	b := &body{c: c, answer: answer, left: h.length, expect: h.has.expect && h.minor == 1}
	if h.chunked {
		b.chunks = &chunked{in: c}
	}
	b.done = !h.chunked && h.length == 0
	return b
}

func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.expired:
		return 0, errBodyClosed
	case b.failed != nil:
		return 0, b.failed
	case b.done:
		return 0, io.EOF
	case len(p) == 0:
		return 0, nil
	}
	if b.expect {
		b.expect = false
		if err := b.answer.proceed(); err != nil {
			b.failed = err
			return 0, err
		}
	}
	n, err := b.read(p)
	switch {
	case err == io.EOF:
		b.done = true
	case isTimeout(err) && !b.c.cut.Load():
		err = &bodyTimeout{b.c.server.config.BodyTimeout, err}
		b.failed = err
	case err != nil:
		b.failed = err
	}
	return n, err
}

func (b *body) read(p []byte) (int, error) {
	if b.chunks != nil {
		return b.chunks.Read(p)
	}
	n, err := b.c.read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	switch {
	case err == io.EOF:
		return n, io.ErrUnexpectedEOF
	case err == nil && b.left == 0:
		return n, io.EOF
	}
	return n, err
}

// Close makes further reads fail. It does not touch the connection.
func (b *body) Close() error {
	// A reader may be waiting for the client; Close must not wait for the reader.
	if b.mu.TryLock() {
		b.expired = true
		b.mu.Unlock()
	}
	return nil
}

// pending reports whether the client got no 100 Continue for its body: it may then send
// the body or not.
func (b *body) pending() bool {
	if !b.mu.TryLock() {
		return false
	}
	defer b.mu.Unlock()
	return b.expect && !b.done
}

// maxDrain bounds what is read of an unread body, to keep the connection.
const maxDrain = 256 << 10

// abandon ends all reading and reports whether the connection is at the body's end, so
// that another request can follow.
func (b *body) abandon() bool {
	if !b.mu.TryLock() {
		// A reader is active: wake it up, or keep it from waiting. The position in the
		// connection is then unknown.
		b.c.cut.Store(true)
		_ = b.c.stream.SetReadDeadline(time.Unix(1, 0))
		b.mu.Lock()
		b.expired, b.over = true, true
		b.mu.Unlock()
		return false
	}
	defer b.mu.Unlock()
	if b.over || b.done || b.failed != nil || b.expect {
		b.expired, b.over = true, true
		return b.done
	}
	b.expired, b.over = true, true
	if b.chunks == nil && b.left > maxDrain {
		return false
	}
	var scratch [2048]byte
	// Bytes in transit arrive soon; abandon does not wait for a client that pauses.
	b.c.drain = time.Now().Add(b.c.server.config.LingerTimeout)
	defer func() { b.c.drain = time.Time{} }()
	for total := 0; total <= maxDrain; {
		n, err := b.read(scratch[:])
		total += n
		if err != nil {
			return err == io.EOF
		}
	}
	return false
}
