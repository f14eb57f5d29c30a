package proxy

import (
	"io"
	"strings"
	"time"
)

// checkHello reads the client's first bytes until they are a whole ClientHello,
// and reports whether it is for the tunnel's target. What was read is kept in
// early, to be sent on as it came. Nothing reaches the target before.
func (t *tunnel) checkHello() bool {
	name, err := t.readHello()
	switch {
	case err == nil && t.isTarget(name):
		return true
	case err == errHelloNoName && t.admission.Target.IsAddress():
		return true // RFC 6066 section 3: a client that was given an address sends no name
	case err == errHelloInvalid && t.isRequest():
	case err == io.EOF && len(t.early) == 0:
		t.stopAs(CauseFinished, false) // opened and closed again, without a byte
	default:
		t.refuseHello(helloCause(err))
	}
	return false
}

// helloCause returns the close reason for a ClientHello that is not for the target.
func helloCause(err error) Cause {
	switch {
	case err == nil:
		return CauseHelloMismatch
	case err == errHelloNoName:
		return CauseHelloMissing
	case err == errHelloEncrypted:
		return CauseHelloEncrypted
	case err == errHelloTooLarge:
		return CauseHelloTooLarge
	case err == errHelloInvalid, err == io.EOF:
		return CauseHelloInvalid
	case timedOut(err):
		return CauseHelloTimeout
	}
	return causeOf(ending{err: err}, true)
}

// isTarget compares a server name with the target: ASCII letters in either case,
// and one trailing dot, which is the same name in DNS (RFC 1034 section 3.1).
// RFC 6066 section 3 has no trailing dot; some clients send the one that their
// user wrote.
func (t *tunnel) isTarget(name string) bool {
	name = strings.TrimSuffix(name, ".")
	return len(name) == len(t.admission.Target.Host) && strings.EqualFold(name, t.admission.Target.Host)
}

func (t *tunnel) readHello() (string, error) {
	if err := t.setClientDeadline(time.Now().Add(t.config.HelloTimeout)); err != nil {
		return "", err
	}
	buf := t.early
	for {
		name, err := parseHello(buf)
		if err == errHelloInvalid && t.mayBeRequest {
			if _, may := requestStart(buf); may {
				err = errHelloMore
			}
		}
		if err != errHelloMore {
			t.early = buf
			if err == nil || err == errHelloNoName {
				if e := t.setClientDeadline(time.Time{}); e != nil {
					return "", e
				}
			}
			return name, err
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
			return "", err
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
