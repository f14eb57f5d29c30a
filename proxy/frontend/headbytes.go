package frontend

import (
	"errors"

	"github.com/sallyport/sallyport/internal/fair"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

// errHeadBytes is returned where a head may not become longer, because of the memory
// that the heads from its address or from all addresses occupy.
var errHeadBytes = errors.New("the request heads that are being read take too much memory")

// headShares bounds the memory of request heads whose step is not known yet, in total
// and per client address. A head that fits into a first buffer is not counted: the
// number of connections bounds those.
func headShares(c *Config) *fair.Limiter {
	return fair.New(fair.Config{Repository: fair.Limit{Bytes: c.HeadBytesPerClient}, Total: fair.Limit{Bytes: c.HeadBytes}})
}

// growHead returns the size of a buffer twice as large, up to limit, whose memory is
// counted for the client's address.
func (c *conn) growHead(limit int) (size int, err error) {
	if len(c.buf.b) >= limit {
		return 0, errBufferFull
	}
	size = min(2*len(c.buf.b), limit)
	c.headBytes.Release()
	c.headBytes, err = c.server.heads.TryAcquire(fair.Subject{Repository: host(c.client.Addr()).String()}, int64(size))
	if err != nil {
		return 0, errHeadBytes
	}
	return size, nil
}

// overHeadBytes is the answer to such a head.
func overHeadBytes() *proxy.Refusal {
	return proxy.NewRefusal(policy.Overloaded, "too many long request heads are being read from this address, or from all addresses")
}
