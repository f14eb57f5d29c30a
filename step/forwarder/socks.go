package forwarder

import (
	"errors"
	"net/http"
	"time"

	"github.com/sallyport/sallyport/step/socks"
	"github.com/sallyport/sallyport/step/upstream"
)

// socks serves a SOCKS 5 connection.
func (f *Forwarder) socks(t *toolConn) {
	target, err := socks.Target(t)
	if errors.Is(err, socks.ErrProtocol) {
		f.refused(*connectionRefusal("a tool", local(http.StatusBadRequest, requestInvalid, err.Error(), "use SOCKS 5 without authentication, or the HTTP proxy")))
		t.answerAndLinger(nil)
		return
	}
	if err != nil {
		return
	}
	stream, refusal := f.open(f.ctx, "connect", target)
	if refusal != nil {
		t.answerAndLinger(socks.AppendReply(nil, replyTo(refusal)))
		return
	}
	if t.SetDeadline(time.Time{}) != nil {
		_ = stream.Close()
		return
	}
	if _, err := t.Write(socks.AppendReply(nil, socks.Succeeded)); err != nil {
		_ = stream.Close()
		return
	}
	f.relay(target, t, nil, stream)
}

// replyTo is the code of SOCKS that is nearest to a refusal (RFC 1928 section 6).
func replyTo(r *upstream.Refusal) socks.Reply {
	switch r.Reason {
	case "target_unreachable":
		return socks.ConnectionRefused
	case "name_unresolved", targetInvalid:
		return socks.HostUnreachable
	case "target_timeout", "upstream_timeout":
		return socks.TTLExpired
	}
	if r.Status == http.StatusForbidden {
		return socks.NotAllowed
	}
	return socks.GeneralFailure
}
