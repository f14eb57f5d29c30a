package frontend

import (
	"errors"
	"time"

	"github.com/sallyport/sallyport/internal/proxyprotocol"
	"github.com/sallyport/sallyport/policy"
)

// proxied reads the header that this peer has to send, and takes the client's
// address from it. It reports whether the connection continues.
func (c *conn) proxied() bool {
	if !c.server.isProxyPeer(c) {
		return true
	}
	if c.stream.SetReadDeadline(time.Now().Add(c.server.config.HeadTimeout)) != nil {
		return false
	}
	source, err := proxyprotocol.Read(c.stream)
	switch {
	case err == nil:
		c.peer = c.client.Addr()
		if source.IsValid() {
			c.client = source
		}
		return true
	case errors.Is(err, proxyprotocol.ErrMissing), errors.Is(err, proxyprotocol.ErrInvalid):
		c.server.config.Log.Warn("connection refused", "listener", c.listener.Name, "peer", c.client.Addr(), "error", err)
		if c.listener.TLS != nil {
			// The peer speaks TLS next, or neither: there is no language to answer in.
			c.server.config.Observer.Refused(c.listener.Name, policy.RequestInvalid)
			return false
		}
		c.minor = 1
		c.refuseHere(malformed(err.Error()))
	case isTimeout(err):
		c.server.config.Observer.Refused(c.listener.Name, policy.HeadTimeout)
	}
	// A peer that closes the connection without a byte is a health check.
	return false
}

func (s *Server) isProxyPeer(c *conn) bool {
	for _, network := range c.listener.ProxyProtocolFrom {
		if network.Contains(c.client.Addr()) {
			return true
		}
	}
	return false
}
