package proxy

import (
	"net/http"
)

// RunUpgraded is [Tracker.Run] for an admitted request whose target has switched
// to another protocol (RFC 9110 section 7.8): the same limits, the same list,
// the same causes; its end is that of a request, with the status 101. The bytes
// of the request and of its answer are counted already.
func (t *Tracker) RunUpgraded(a *Admission, client Stream, early []byte, upstream Stream) Outcome {
	tun := newTunnel(t.config, a, client, early, upstream)
	t.add(tun)
	defer t.remove(tun)
	out := tun.run()
	out.Status, out.UpstreamStatus = http.StatusSwitchingProtocols, http.StatusSwitchingProtocols
	a.Close(out)
	return out
}
