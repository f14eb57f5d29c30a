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
func headShares(total, perClient int64) *fair.Limiter {
	return fair.New(fair.Config{Repository: fair.Limit{Bytes: perClient}, Total: fair.Limit{Bytes: total}})
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

// overHeadBytes is the answer to such a head.
func overHeadBytes() *proxy.Refusal {
	return proxy.NewRefusal(policy.Overloaded, "too many long request heads are being read from this address, or from all addresses")
}
