package frontend

import (
	"errors"
	"io"

	"github.com/sallyport/sallyport/internal/fair"
)

// fill reads once from the connection, behind what is in the buffer, which may
// grow to limit bytes.
func (c *conn) fill(limit int) error {
	b := c.buf
	if b.start == b.end {
		b.start, b.end = 0, 0
	}
	if b.end == len(b.b) && b.start > 0 {
		b.end = copy(b.b, b.b[b.start:b.end])
		b.start = 0
	}
	if b.end == len(b.b) {
		size, err := c.growHead(limit)
		if err != nil {
			return err
		}
		grown := make([]byte, size)
		copy(grown, b.b[:b.end])
		b.b = grown
	}
	n, err := c.stream.Read(b.b[b.end:])
	b.end += n
	if n > 0 {
		return nil
	}
	if err == nil {
		return io.ErrNoProgress
	}
	return err
}

var errBufferFull = errors.New("the buffer is full")

// growHead returns the size of a buffer twice as large, up to limit, whose memory is
// counted for the client's address.
func (c *conn) growHead(limit int) (size int, err error) {
	if len(c.buf.b) >= limit {
		return 0, errBufferFull
	}
	size = min(2*len(c.buf.b), limit)
	address := fair.Subject{Repository: host(c.client.Addr()).String()}
	if size > keptBuffer && len(c.buf.b) <= keptBuffer {
		turn, err := c.server.longHeads.Acquire(c.server.context, address, 0)
		if err != nil {
			return 0, errHeadBytes
		}
		turn.Release()
	}
	c.headBytes.Release()
	if c.headBytes, err = c.server.heads.TryAcquire(address, int64(size)); err != nil {
		return 0, errHeadBytes
	}
	return size, nil
}
