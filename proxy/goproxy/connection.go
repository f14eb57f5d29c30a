package goproxy

import (
	"bytes"
	"errors"
	"net/netip"
	"sync/atomic"

	"github.com/sallyport/sallyport/proxy"
)

// connection is a connection to a target. It counts every byte each way for the exchange
// that it serves, head, framing and trailers included, and enforces the byte limits of
// the decision: no byte over a limit is written or forwarded.
//
// The transport runs one exchange at a time on a connection, and calls Write from
// one goroutine.
type connection struct {
	proxy.Stream
	to      netip.AddrPort // the pinned address; invalid where another proxy resolves the name
	written atomic.Int64   // distinguishes a request that was never sent from one that may have arrived
	current atomic.Pointer[exchange]
	lease   poolLease
	left    atomic.Bool // the pool

	// The request's head, until it is complete, where what may be sent is limited:
	// a head that does not fit is not sent in part. Used by Write alone.
	head     []byte
	headOf   *exchange // whose head head is
	headSent bool
}

var (
	errSentLimit     = errors.New("goproxy: write to the target: the request is longer than the decision allows")
	errReceivedLimit = errors.New("goproxy: read from the target: the answer is longer than the decision allows")
	errNoExchange    = errors.New("goproxy: write to the target: the connection serves no admitted request")
)

// leave removes the connection from its pool's count.
func (c *connection) leave() {
	if !c.left.Swap(true) {
		c.lease.closed()
	}
}

// Close closes the connection.
func (c *connection) Close() error {
	c.leave()
	return c.Stream.Close()
}

// serve counts the following bytes for the exchange x.
func (c *connection) serve(x *exchange) { c.current.Store(x) }

// release ends that, unless another exchange already has the connection.
func (c *connection) release(x *exchange) { c.current.CompareAndSwap(x, nil) }

var headEnd = []byte("\r\n\r\n")

// Write sends bytes of the current exchange's request. If they go over a limit, it
// sends none of them, and the exchange fails.
func (c *connection) Write(p []byte) (int, error) {
	x := c.current.Load()
	if x == nil {
		return 0, errNoExchange
	}
	if c.headOf != x {
		c.headOf, c.head, c.headSent = x, nil, false
	}
	out := p
	if !c.headSent && x.admission.IsSentBounded() {
		// net/http writes a head in pieces of its buffer's size.
		searchFrom := max(0, len(c.head)-len(headEnd)+1)
		if c.head != nil || !bytes.Contains(p, headEnd) {
			c.head = append(c.head, p...)
			out = c.head
		}
		if !bytes.Contains(out[searchFrom:], headEnd) {
			return len(p), nil // the rest follows at once
		}
	}
	c.headSent, c.head = true, nil
	granted := x.admission.ReserveSent(len(out))
	if granted < len(out) {
		cause, refusal := x.admission.OverSent()
		x.admission.UnreserveSent(granted)
		x.fail(cause, refusal)
		return 0, errSentLimit
	}
	n, err := c.Stream.Write(out)
	x.admission.UnreserveSent(len(out) - n)
	c.written.Add(int64(n))
	// A piece that was kept back counts as written when the last one is.
	return max(0, n-(len(out)-len(p))), err
}

// Read receives bytes of the current exchange's response. Bytes over a limit are not
// forwarded, and the exchange fails.
func (c *connection) Read(p []byte) (int, error) {
	n, err := c.Stream.Read(p)
	x := c.current.Load()
	if x == nil || n <= 0 {
		// The transport closes a connection whose target sends bytes without a request.
		return n, err
	}
	if granted := x.admission.ReserveReceived(n); granted < n {
		cause, refusal := x.admission.OverReceived()
		x.fail(cause, refusal)
		return granted, errReceivedLimit
	}
	return n, err
}
