package forwarder

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/sallyport/sallyport/step/upstream"
)

// relay passes bytes in both directions until both have ended, early first, and closes the
// stream. An end of one direction is passed on (RFC 9110 section 9.3.6). After an error
// both connections are reset or closed: a tool must not take a truncated answer for a
// complete one.
func (f *Forwarder) relay(target string, t *toolConn, early []byte, s upstream.Stream) {
	if !f.track(s) {
		_ = s.Close()
		return
	}
	defer func() {
		f.forget(s)
		_ = s.Close()
	}()
	var broken atomic.Bool
	abort := func() {
		broken.Store(true)
		_ = t.SetLinger(0) // a reset
		_ = t.TCPConn.Close()
		_ = s.Close()
	}
	var sent, received int64
	var both sync.WaitGroup
	both.Go(func() {
		n, err := s.Write(early)
		sent = int64(n)
		if err == nil {
			var more int64
			more, err = copyBuffered(s, t)
			sent += more
		}
		if err == nil {
			err = s.CloseWrite()
		}
		if err != nil && !isEnded(err) {
			abort()
		}
	})
	n, err := copyBuffered(t, s)
	received = n
	if err == nil {
		err = t.CloseWrite()
	}
	if err != nil && !isEnded(err) {
		abort()
	}
	both.Wait()
	f.stats.closed(target, sent, received, broken.Load())
}

// isEnded reports whether an operation failed because the connection had been closed here
// or by a peer that had read everything.
func isEnded(err error) bool {
	return errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed) || errors.Is(err, syscall.ENOTCONN)
}
