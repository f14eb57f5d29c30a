package proxy

import (
	"net/http"
	"time"
)

// Run relays bytes between client and target until the tunnel ends, then closes both
// connections and the admission, and returns the outcome. By then the closing event is
// recorded, and the tunnel is not listed. early is what the client sent behind its
// CONNECT and has already been read. The tunnel's first bytes from the client must be a
// TLS ClientHello for the admission's target, unless the decision allows any protocol.
//
// Both connections must have no deadline set, and the caller must not use them.
func (t *Tracker) Run(a *Admission, client Stream, early []byte, upstream Stream) Outcome {
	tun := newTunnel(t.config, a, client, early, upstream)
	t.add(tun)
	// Last, so that every end is recorded when the tracker is drained.
	defer t.remove(tun)
	out := tun.run()
	tun.closeAdmissions(out)
	return out
}

// closeAdmissions ends the admission, and the one about the ClientHello's own host. The
// bytes are those of the tunnel's target.
func (t *tunnel) closeAdmissions(out Outcome) {
	t.admission.Close(out)
	if t.serverName != nil {
		t.serverName.Close(Outcome{Cause: out.Cause})
	}
}

// RunConnect is [Tracker.Run] for a CONNECT whose client may send plain HTTP
// requests instead of TLS, as undici does for http:// targets. When a tunnel that
// must carry TLS begins with such a request, RunConnect closes the connection to
// the target, to which no byte was sent, ends the admission with
// [CauseHTTPRequest] and returns the bytes that were read. The caller then owns the
// client's connection, which has no deadline. Otherwise request is nil and the
// client's connection is closed or broken.
//
// begun is called, on this goroutine, when the tunnel begins to relay bytes; request
// is nil after that. begun may be nil.
func (t *Tracker) RunConnect(a *Admission, client Stream, early []byte, upstream Stream, begun func()) (out Outcome, request []byte) {
	tun := newTunnel(t.config, a, client, early, upstream)
	tun.mayBeRequest, tun.begun = true, begun
	t.add(tun)
	defer t.remove(tun)
	out = tun.run()
	tun.closeAdmissions(out)
	if !tun.leavesClient || client.SetDeadline(time.Time{}) != nil {
		return out, nil
	}
	return out, tun.early
}

// RunUpgraded is [Tracker.Run] for an admitted request whose target has switched to
// another protocol (RFC 9110 section 7.8): with the same limits, list and causes; its end
// is that of a request, with the status 101. The bytes of the request and of its response
// are counted already.
func (t *Tracker) RunUpgraded(a *Admission, client Stream, early []byte, upstream Stream) Outcome {
	tun := newTunnel(t.config, a, client, early, upstream)
	t.add(tun)
	defer t.remove(tun)
	out := tun.run()
	out.Status, out.UpstreamStatus = http.StatusSwitchingProtocols, http.StatusSwitchingProtocols
	a.Close(out)
	return out
}
