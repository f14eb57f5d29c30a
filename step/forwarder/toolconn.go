package forwarder

import (
	"io"
	"net"
	"sync"
	"time"
)

// toolConn is a tool's connection, whose first byte may have been read.
type toolConn struct {
	*net.TCPConn
	first    byte
	hasFirst bool
	release  func()
}

// Read implements [net.Conn]. It is not called concurrently before the first byte is read.
func (t *toolConn) Read(b []byte) (int, error) {
	if t.hasFirst && len(b) > 0 {
		t.hasFirst = false
		b[0] = t.first
		return 1, nil
	}
	return t.TCPConn.Read(b)
}

// WriteTo hides the method of the TCP connection, which would skip the first byte.
func (t *toolConn) WriteTo(w io.Writer) (int64, error) { return copyBuffered(w, readerOnly{t}) }

// Close closes the connection and releases its place.
func (t *toolConn) Close() error {
	err := t.TCPConn.Close()
	t.release()
	return err
}

// lingerFor bounds the time and lingerBytes the bytes that are read after a refusal.
const (
	lingerFor   = time.Second
	lingerBytes = 256 << 10
)

// answerAndLinger writes a last answer, and reads what the tool sends until it closes:
// closing with unread bytes resets the connection, and the answer would be lost (RFC 9112
// section 9.6).
func (t *toolConn) answerAndLinger(b []byte) {
	if t.SetDeadline(time.Now().Add(lingerFor)) != nil {
		return
	}
	if _, err := t.Write(b); err != nil || t.CloseWrite() != nil {
		return
	}
	t.discard(lingerBytes)
}

// discard reads and drops at most n bytes.
func (t *toolConn) discard(n int) {
	b := make([]byte, 4<<10)
	for n > 0 {
		read, err := t.Read(b)
		if err != nil {
			return
		}
		n -= read
	}
}

type (
	readerOnly struct{ io.Reader }
	writerOnly struct{ io.Writer }
)

// buffers are for relays.
var buffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

// copyBuffered copies with a shared buffer. Each read is written at once.
func copyBuffered(w io.Writer, r io.Reader) (int64, error) {
	b := buffers.Get().(*[]byte)
	defer buffers.Put(b)
	return io.CopyBuffer(writerOnly{w}, readerOnly{r}, *b)
}
