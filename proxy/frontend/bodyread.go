package frontend

import (
	"bytes"
	"errors"
	"time"
)

// read returns buffered bytes first, and then reads from the connection. Bodies are read
// by it: each wait for the client has its own bound.
func (c *conn) read(p []byte) (int, error) {
	b := c.buf
	if b.start < b.end {
		n := copy(p, b.b[b.start:b.end])
		b.start += n
		return n, nil
	}
	if err := c.armBody(); err != nil {
		return 0, err
	}
	return c.stream.Read(p)
}

// armBody bounds the next wait for a body, unless the body was abandoned.
func (c *conn) armBody() error {
	until := c.drain
	if until.IsZero() {
		until = time.Now().Add(c.server.config.BodyTimeout)
	}
	if err := c.stream.SetReadDeadline(until); err != nil {
		return err
	}
	if c.cut.Load() { // abandon sets this first and its deadline second
		return errBodyClosed
	}
	return nil
}

// line returns the next line of at most limit bytes, without its CRLF. It is
// valid until the next read.
func (c *conn) line(limit int) ([]byte, error) {
	b := c.buf
	for {
		have := b.b[b.start:b.end]
		i := bytes.IndexByte(have, '\n')
		switch {
		case i >= 0 && (i == 0 || have[i-1] != '\r' || i-1 > limit || bytes.IndexByte(have[:i-1], '\r') >= 0):
			return nil, errLine
		case i >= 0:
			b.start += i + 1
			return have[:i-1], nil
		case len(have) > limit+1, len(have) > 0 && limit == 0 && have[0] != '\r':
			return nil, errLine
		}
		if err := c.armBody(); err != nil {
			return nil, err
		}
		if err := c.fill(c.server.config.MaxHeadBytes); err != nil {
			return nil, err
		}
	}
}

// errBodyClosed is read from a body after the request is over.
var errBodyClosed = errors.New("frontend: the request body was read after the request was over")
