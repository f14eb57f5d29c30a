package frontend

import (
	"fmt"
	"time"

	"github.com/sallyport/sallyport/internal/destination"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

// establishedAnswer is the response to an admitted CONNECT, in HTTP/1.minor. It has one
// field because some clients (apk before Alpine 3.13.1) wait for one. Proxy-Status
// without an error names the proxy that responded (RFC 9209 section 2).
func establishedAnswer(minor int, name string) []byte {
	return fmt.Appendf(nil, "HTTP/1.%d 200 Connection established\r\nProxy-Status: %s\r\n\r\n", minor, name)
}

// connect has the gate decide on a CONNECT (RFC 9110 section 9.3.6) and, when it is
// admitted and the dial succeeds, answers 200 and returns the tunnel that the connection
// is to become.
func (c *conn) connect(h *head) (tunnel *handover) {
	s := c.server
	if _, err := destination.ParseAuthority(string(h.target)); err == nil && h.hostProblem != "" {
		c.refuseHere(malformed(h.hostProblem))
		return nil
	}
	attempt := proxy.Attempt{
		Action:      policy.Connect,
		Target:      string(h.target),
		Client:      c.client,
		Peer:        c.peer,
		Listener:    c.listener.Name,
		HeaderBytes: int64(len(c.buf.b)),
		// A client that has ended its side after a request may still read the response.
		// After a CONNECT it cannot use the tunnel.
		Gone: func() bool { return isClosed(c.raw) },
	}
	attempt.Credential, attempt.CredentialError = h.readCredential()
	c.connects = true
	defer func() {
		if p := recover(); p != nil {
			c.answerPanic(p)
		}
	}()
	a, refusal := s.config.Gate.Admit(s.context, attempt)
	c.headBytes.Release() // an admission has them under its step's limits
	if refusal != nil {
		c.connects = false
		c.answer(refusal)
		return nil
	}
	// After every failure from here on, the end of the admission is recorded.
	outcome := proxy.Outcome{Cause: proxy.CauseInternal}
	defer func() {
		if tunnel == nil {
			a.Close(outcome)
		}
	}()
	if c.buf.start == c.buf.end && isClosed(c.stream) {
		outcome.Cause = proxy.CauseClientClosed
		return nil
	}
	upstream, refusal := a.Dial(s.context)
	a.Settle()
	if refusal != nil {
		outcome = proxy.Outcome{Cause: refusal.Cause(), Status: refusal.Status}
		a.Close(outcome)
		c.connects = false
		c.answer(refusal)
		return nil
	}
	defer func() {
		if tunnel == nil {
			_ = upstream.Close()
		}
	}()
	if !c.establish() {
		outcome.Cause = proxy.CauseClientError
		if s.context.Err() != nil {
			outcome.Cause = proxy.CauseShutdown
		}
		return nil
	}
	return &handover{admission: a, upstream: upstream,
		inside: &inside{host: a.Target.Host, port: a.Target.Port, credential: attempt.Credential, client: c.client, peer: c.peer}}
}

// answerPanic answers a CONNECT that a panic has interrupted. Some clients (undici) repeat
// without end a CONNECT whose connection is reset without a response.
func (c *conn) answerPanic(p any) {
	c.server.panicked(c.listener.Name, p)
	if c.connects {
		c.connects = false
		c.answer(proxy.NewRefusal(policy.InternalError, "the proxy failed while it processed the request"))
	}
}

// establish answers 200 and removes all deadlines of the connection.
func (c *conn) establish() bool {
	c.connects = false
	answer := c.server.established[c.minor]
	// A first response always fits into the socket's buffer; a later one may not.
	if c.requests > 0 && c.stream.SetWriteDeadline(time.Now().Add(c.server.config.WriteTimeout)) != nil {
		return false
	}
	if _, err := c.stream.Write(answer); err != nil {
		return false
	}
	return c.stream.SetDeadline(time.Time{}) == nil
}
