package forwarder

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/step/peeruid"
	"github.com/sallyport/sallyport/step/socks"
)

// maxRejecting is how many connections without a slot are answered at once. The others are
// closed without an answer.
const maxRejecting = 64

// serve accepts connections until the forwarder or the listener is closed. slots bounds the
// connections that are open at once.
func (f *Forwarder) serve(l net.Listener, slots chan struct{}, admit func(net.Conn) *Refusal) error {
	defer func() { _ = l.Close() }()
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return nil
	}
	f.listeners[l] = struct{}{}
	f.routines.Add(1)
	f.mu.Unlock()
	defer f.routines.Done()
	for {
		c, err := l.Accept()
		if err == nil {
			f.accepted(c, slots, admit)
			continue
		}
		if f.ctx.Err() != nil {
			return nil
		}
		// accept(2) returns EINVAL for a socket that does not listen any more.
		if errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.EINVAL) {
			return fmt.Errorf("forwarder: accept: %w", err)
		}
		f.config.Log.Warn("accept failed", "error", err)
		select { // a lack of descriptors passes
		case <-time.After(50 * time.Millisecond):
		case <-f.ctx.Done():
		}
	}
}

// accepted starts the goroutine of a connection.
func (f *Forwarder) accepted(c net.Conn, slots chan struct{}, admit func(net.Conn) *Refusal) {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		f.config.Log.Error("connection of an unknown kind", "type", fmt.Sprintf("%T", c))
		_ = c.Close()
		return
	}
	t := &toolConn{TCPConn: tcp, release: func() {}}
	if !f.track(t) {
		_ = t.Close()
		return
	}
	select {
	case slots <- struct{}{}:
		t.release = sync.OnceFunc(func() { <-slots })
		f.routines.Go(func() { f.begin(t, admit) })
	default:
		f.stats.overLimit()
		f.routines.Go(func() {
			f.reject(t, answer(local(http.StatusServiceUnavailable, tooManyConnections,
				"the step's forwarder has as many connections as it may have", "open fewer connections at once")))
		})
	}
}

// reject answers a connection without a slot, which it releases: connections that are not
// admitted must not use up the slots of those that are. It closes the connection.
func (f *Forwarder) reject(t *toolConn, b []byte) {
	t.release()
	select {
	case f.rejecting <- struct{}{}:
		t.answerAndLinger(b)
		<-f.rejecting
	default:
	}
	f.end(t)
}

// begin admits a connection, and passes it on by its first byte. Nothing is read before
// the admission.
func (f *Forwarder) begin(t *toolConn, admit func(net.Conn) *Refusal) {
	handed := false
	defer func() {
		if !handed {
			f.end(t)
		}
	}()
	if r := admit(t.TCPConn); r != nil {
		if r.Target == unknownUser && peeruid.Abandoned(t.TCPConn) {
			return // a test of the port, as by nc -z: there is nothing to refuse
		}
		f.refused(*r)
		f.reject(t, answer(&r.Refusal))
		return
	}
	if t.SetReadDeadline(time.Now().Add(f.config.IdleTimeout)) != nil {
		return
	}
	var first [1]byte
	if n, _ := t.TCPConn.Read(first[:]); n == 0 {
		return
	}
	if t.SetReadDeadline(time.Now().Add(f.config.HeadTimeout)) != nil {
		return
	}
	t.first, t.hasFirst = first[0], true
	switch first[0] {
	case socks.Version:
		f.socks(t)
	case socks.Version4:
		f.unsupported(t, "SOCKS 4", []byte{0, 0x5b, 0, 0, 0, 0, 0, 0})
	case 0x16: // a TLS handshake: the alert handshake_failure (RFC 8446 section 6)
		f.unsupported(t, "TLS", []byte{0x15, 3, 1, 0, 2, 2, 40})
	default:
		f.forget(t) // net/http closes it from here on
		handed = true
		if !f.queue.put(t) {
			_ = t.Close()
		}
	}
}

// unsupported answers a client that speaks another protocol, and prints the remedy: the
// client cannot show it.
func (f *Forwarder) unsupported(t *toolConn, protocol string, reply []byte) {
	f.refused(*connectionRefusal("a tool", local(http.StatusBadRequest, requestInvalid,
		"it speaks "+protocol+" to the forwarder", "write the proxy's URL with http:// or socks5://")))
	t.answerAndLinger(reply)
}
