package frontend

import (
	"net/http"
	"time"

	"github.com/sallyport/sallyport/proxy"
)

// switchedTunnel returns the tunnel that the connection becomes after a response of
// 101; nil: none.
func (c *conn) switchedTunnel() *handover {
	s := c.switched
	if s == nil {
		return nil
	}
	if c.stream.SetDeadline(time.Time{}) != nil {
		_ = s.upstream.Close()
		sent, received := s.admission.Moved()
		s.admission.Close(proxy.Outcome{Cause: proxy.CauseClientError, Sent: sent, Received: received,
			Status: http.StatusSwitchingProtocols, UpstreamStatus: http.StatusSwitchingProtocols})
		return nil
	}
	return &handover{admission: s.admission, upstream: s.upstream, upgraded: true}
}
