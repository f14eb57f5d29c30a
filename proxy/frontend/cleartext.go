package frontend

import (
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"
)

// cleartextInterval is the least time between two warnings about plain HTTP
// requests on TLS listeners. Each request is counted.
const cleartextInterval = time.Minute

// cleartextWarnings bounds the warnings about plain HTTP requests on TLS listeners.
type cleartextWarnings struct {
	requests atomic.Int64 // since the server began
	warned   atomic.Int64 // Unix nanoseconds of the last warning
}

// warn counts a request and logs a warning, at most once for each cleartextInterval:
// a credential may have crossed the network in clear.
func (w *cleartextWarnings) warn(log *slog.Logger, listener string, client netip.Addr) {
	total := w.requests.Add(1)
	now, last := time.Now().UnixNano(), w.warned.Load()
	if last != 0 && now-last < int64(cleartextInterval) || !w.warned.CompareAndSwap(last, now) {
		return
	}
	log.Warn("plain HTTP request on a TLS listener: its credential may have been exposed; correct http:// in the client's proxy URL to https://",
		"listener", listener, "client_address", client, "requests", total)
}
