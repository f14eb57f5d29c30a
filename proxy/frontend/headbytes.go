package frontend

import (
	"errors"
	"time"

	"github.com/sallyport/sallyport/internal/fair"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

// errHeadBytes is returned where a head may not become longer, because of the memory
// or the number of the long heads from its address or from all addresses.
var errHeadBytes = errors.New("too many long request heads are being read")

// headShares bounds the memory of request heads whose step is not known yet, in total
// and per client address. A head that fits into a first buffer is not counted: the
// number of connections bounds those.
func headShares(c *Config) *fair.Limiter {
	return fair.New(fair.Config{Repository: fair.Limit{Bytes: c.HeadBytesPerClient}, Total: fair.Limit{Bytes: c.HeadBytes}})
}

// longHeadRate paces request heads of more than 16 KiB, in total and per client
// address in turn. Such a head takes as much processor time as ten short ones before
// its step is known, and hundreds of them at once would delay all other requests.
var longHeadRate = fair.Config{
	Step:       fair.Limit{Waiting: 1000},
	Repository: fair.Limit{Rate: 100, Burst: 10, Waiting: 1000},
	Total:      fair.Limit{Rate: 500, Burst: 20, Waiting: 10_000},
	Wait:       5 * time.Second,
}

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

// overHeadBytes is the answer to such a head.
func overHeadBytes() *proxy.Refusal {
	return proxy.NewRefusal(policy.Overloaded, "too many long request heads are being read from this address, or from all addresses")
}
