package proxy

import (
	"io"
	"strings"
	"time"

	"github.com/sallyport/sallyport/policy"
)

// checkHello reads the client's first bytes until they are a whole ClientHello, and
// reports whether the tunnel may continue. What was read is kept in early, to be sent on as
// it came. Nothing reaches the target before.
//
// In report mode a tunnel continues that would be closed, once that is recorded.
func (t *tunnel) checkHello() bool {
	timeout := t.config.HelloTimeout
	for {
		h, err := t.readHello(timeout)
		cause := Cause("")
		switch {
		case err == nil:
			cause = t.helloProblem(h)
		case err == errHelloInvalid && t.isRequest():
			return false
		case err == io.EOF && len(t.early) == 0 && t.isReported():
			return true // nothing to check: the client may still read
		case err == io.EOF && len(t.early) == 0:
			t.stopAs(CauseFinished, false) // opened and closed again, without a byte
			return false
		default:
			cause = helloCause(err)
		}
		if cause == "" {
			return true
		}
		if !t.continues(h, cause) {
			t.refuseHello(cause)
			return false
		}
		if cause != CauseHelloTimeout || len(t.early) > 0 {
			return true
		}
		timeout = 0 // the first bytes are checked whenever they come
	}
}

// helloProblem returns why a ClientHello is not for the tunnel's target, "" if it is. What
// a rule accepts is noted, because a later revision may not accept it.
func (t *tunnel) helloProblem(h hello) Cause {
	a := t.admission
	d := a.latest()
	switch {
	case h.name != "" && !t.isTarget(h.name):
		return CauseHelloMismatch
	case h.encrypted && !d.ECH:
		return CauseHelloEncrypted
	case h.encrypted:
		if h.name == "" && !a.Target.IsAddress() {
			return CauseHelloMissing // ech requires that the outer name is the target
		}
		return t.exempt(CauseHelloEncrypted)
	case h.name != "", a.Target.IsAddress():
		return "" // RFC 6066 section 3: a client that was given an address sends no name
	case d.NoSNI:
		return t.exempt(CauseHelloMissing)
	}
	return CauseHelloMissing
}

// helloCause returns the close reason for first bytes that are not a ClientHello.
func helloCause(err error) Cause {
	switch {
	case err == errHelloTooLarge:
		return CauseHelloTooLarge
	case err == errHelloInvalid, err == io.EOF:
		return CauseHelloInvalid
	case timedOut(err):
		return CauseHelloTimeout
	}
	return causeOf(ending{err: err}, true)
}

// accepts reports whether a decision accepts the first bytes that a strict check closes
// with the cause.
func accepts(d *policy.Decision, cause Cause) bool {
	switch {
	case d.Protocol == policy.ProtocolAny:
		return true
	case cause == CauseHelloEncrypted:
		return d.ECH
	case cause == CauseHelloMissing:
		return d.NoSNI
	}
	return false
}

// isTarget compares a server name with the target: ASCII letters in either case,
// and one trailing dot, which is the same name in DNS (RFC 1034 section 3.1).
// RFC 6066 section 3 has no trailing dot; some clients send the one that their
// user wrote.
func (t *tunnel) isTarget(name string) bool {
	name = strings.TrimSuffix(name, ".")
	return len(name) == len(t.admission.Target.Host) && strings.EqualFold(name, t.admission.Target.Host)
}

// readHello reads a ClientHello within the timeout; 0 waits without a limit.
func (t *tunnel) readHello(timeout time.Duration) (hello, error) {
	var deadline time.Time
	if timeout > 0 {
		deadline = time.Now().Add(timeout)
	}
	if err := t.setHelloDeadline(deadline); err != nil {
		return hello{}, err
	}
	buf := t.early
	for {
		h, err := parseHello(buf)
		if err == errHelloInvalid && t.mayBeRequest {
			if _, may := requestStart(buf); may {
				err = errHelloMore
			}
		}
		if err != errHelloMore {
			t.early = buf
			if err == nil {
				err = t.setHelloDeadline(time.Time{})
			}
			return h, err
		}
		if cap(buf)-len(buf) < 1<<10 {
			grown := make([]byte, len(buf), min(maxHello, max(2<<10, 2*cap(buf)))+1<<10)
			copy(grown, buf)
			buf = grown
		}
		n, err := t.client.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if n > 0 {
			t.touch()
			continue
		}
		t.early = buf
		if err != nil {
			return hello{}, err
		}
	}
}

// TLS alerts (RFC 8446 section 6.2).
const (
	alertDecodeError      = 50
	alertAccessDenied     = 49
	alertMissingExtension = 109
	alertUnrecognizedName = 112
)

// refuseHello ends the tunnel and sends a TLS client an alert, which is the only response
// that is possible after the 200.
func (t *tunnel) refuseHello(cause Cause) {
	alert := byte(0)
	switch cause {
	case CauseHelloMismatch:
		alert = alertUnrecognizedName
	case CauseHelloMissing:
		alert = alertMissingExtension
	case CauseHelloEncrypted, CauseHelloTooLarge:
		alert = alertAccessDenied
	case CauseHelloInvalid:
		if len(t.early) > 0 && t.early[0] == typeHandshake {
			alert = alertDecodeError
		}
	}
	const wait = time.Second
	if alert == 0 || t.setClientDeadline(time.Now().Add(wait)) != nil {
		t.stopAs(cause, true)
		return
	}
	if _, err := t.client.Write([]byte{21, 3, 1, 0, 2, 2, alert}); err == nil {
		// Closing with bytes unread would reset the connection and take the alert
		// with it, so that what still comes is read for a moment.
		_ = t.client.CloseWrite()
		_, _ = io.CopyN(io.Discard, t.client, 4*maxHello)
	}
	t.stopAs(cause, true)
}
