package frontend

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

// readHead reads one head off the connection and returns its bytes, its empty line
// included; what follows stays in the buffer. Of the three results one is set: an error
// means that there is no client to answer. The connection's read deadline bounds the
// time.
//
// It finds faults in the lines' ends at once and does not wait for more bytes:
// a client that ends its lines with a bare line feed never sends the empty line.
func (c *conn) readHead() ([]byte, *proxy.Refusal, error) {
	b := c.buf
	b.head.reset()
	c.minor = 1
	limit := c.server.config.MaxHeadBytes
	if b.start > 0 {
		b.end = copy(b.b, b.b[b.start:b.end])
		b.start = 0
	}
	var s headScan
	for {
		done, refusal := s.scan(b.b[:b.end])
		if refusal != nil {
			return nil, refusal, nil
		}
		if done {
			b.start = s.line
			return b.b[s.begin:s.line], nil, nil
		}
		if err := c.fill(limit); err != nil {
			begun := b.end > s.begin
			return nil, headRefusal(err, begun, limit), silent(err, begun)
		}
	}
}

// headRefusal is the answer to a head that did not arrive; nil where nothing of
// it had come.
func headRefusal(err error, begun bool, limit int) *proxy.Refusal {
	switch {
	case errors.Is(err, errBufferFull):
		return proxy.NewRefusal(policy.HeadTooLarge, fmt.Sprintf("the request head has more than %d bytes", limit))
	case errors.Is(err, errHeadBytes):
		return overHeadBytes()
	case !begun:
		return nil
	case isTimeout(err):
		return proxy.NewRefusal(policy.HeadTimeout, "the request head did not arrive in time")
	}
	return malformed("the connection ended inside the request head")
}

// silent is the error where no answer is due: a connection that ends between two
// requests.
func silent(err error, begun bool) error {
	if begun {
		return nil
	}
	return err
}

// headScan finds the end of a head in bytes that arrive piece by piece.
type headScan struct {
	begin int // where the head begins: behind an empty line, if there is one
	line  int // where the current line begins
	seen  int // what was checked
}

func (s *headScan) scan(b []byte) (done bool, refusal *proxy.Refusal) {
	for {
		if refusal := s.firstByte(b); refusal != nil {
			return false, refusal
		}
		i := bytes.IndexByte(b[s.seen:], '\n')
		if i < 0 {
			s.seen = len(b)
			return false, nil
		}
		i += s.seen
		if i == s.line || b[i-1] != '\r' {
			return false, malformed("a line ends with a bare line feed: lines end with CR LF")
		}
		empty, first := i-1 == s.line, s.line == s.begin
		s.seen, s.line = i+1, i+1
		switch {
		case empty && !first:
			return true, nil
		case empty && s.begin > 0:
			return false, malformed("there are empty lines in front of the request line")
		case empty:
			s.begin = i + 1 // RFC 9112 section 2.2: one empty line in front is ignored
		}
	}
}

// firstByte refuses at once what will never become a request.
func (s *headScan) firstByte(b []byte) *proxy.Refusal {
	if s.line != s.begin || len(b) == s.begin {
		return nil
	}
	switch first := b[s.begin]; {
	case first == 0x16:
		return malformed("the first bytes are TLS and this listener speaks plain HTTP: write http:// in HTTPS_PROXY, or use the TLS listener")
	case first == 0x04, first == 0x05: // RFC 1928 section 3, and SOCKS 4
		return malformed("the first bytes are SOCKS and this is an HTTP proxy: write http:// in HTTPS_PROXY, not socks5://")
	case !tokenBytes[first] && first != '\r' && first != '\n':
		return malformed("the request does not begin with a method")
	}
	return nil
}
