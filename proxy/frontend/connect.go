package frontend

import (
	"bytes"
	"fmt"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/destination"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

// establishedAnswer is the answer to a CONNECT that is admitted, in HTTP/1.minor.
// It has one field because some clients (apk before Alpine 3.13.1) wait for one.
// Proxy-Status without an error says who answered (RFC 9209 section 2).
func establishedAnswer(minor int, name string) []byte {
	return fmt.Appendf(nil, "HTTP/1.%d 200 Connection established\r\nProxy-Status: %s\r\n\r\n", minor, name)
}

// connect puts a CONNECT (RFC 9110 section 9.3.6) through the gate and, when it
// is admitted and its target answers, makes the connection a tunnel: then it
// reports true, and the connection belongs to the tracker.
func (c *conn) connect(h *head) (handed bool) {
	s := c.server
	if _, err := destination.ParseAuthority(string(h.target)); err == nil && h.hostProblem != "" {
		c.refuseHere(malformed(h.hostProblem))
		return false
	}
	attempt := proxy.Attempt{
		Action:      policy.Connect,
		Target:      string(h.target),
		Client:      c.client,
		Peer:        c.peer,
		Listener:    c.listener.Name,
		HeaderBytes: int64(len(c.buf.b)),
		// A client that has ended its side of a request may still want the answer; of
		// a tunnel that it asks for it wants nothing more.
		Gone: func() bool { return isGone(c.raw) },
	}
	attempt.Credential, attempt.CredentialError = h.readCredential()
	a, refusal := s.config.Gate.Admit(s.context, attempt)
	c.headBytes.Release() // what was admitted has them under its step's limits
	if refusal != nil {
		c.answer(refusal)
		return false
	}
	// Whatever goes wrong from here on, the admission ends recorded.
	outcome := proxy.Outcome{Cause: proxy.CauseInternal}
	defer func() {
		if !handed {
			a.Close(outcome)
		}
	}()
	if c.buf.start == c.buf.end && isGone(c.stream) {
		outcome.Cause = proxy.CauseClientClosed
		return false
	}
	upstream, refusal := a.Dial(s.context)
	if refusal != nil {
		outcome = proxy.Outcome{Cause: refusal.Cause(), Status: refusal.Status}
		a.Close(outcome)
		c.answer(refusal)
		return false
	}
	defer func() {
		if !handed {
			_ = upstream.Close()
		}
	}()
	if !c.establish() {
		outcome.Cause = proxy.CauseClientError
		if s.context.Err() != nil {
			outcome.Cause = proxy.CauseShutdown
		}
		return false
	}
	handed = true
	c.becomeTunnel(&handover{admission: a, upstream: upstream,
		inside: &inside{host: a.Target.Host, port: a.Target.Port, credential: attempt.Credential, client: c.client, peer: c.peer}})
	return true
}

// becomeTunnel hands the connection on to the tracker. Of h, the admission, the
// connection to the target and what belongs to them are given.
func (c *conn) becomeTunnel(h *handover) {
	// What came with the CONNECT belongs to the tunnel.
	h.early = bytes.Clone(c.buf.b[c.buf.start:c.buf.end])
	if len(h.early) == 0 {
		h.early = nil
	}
	c.release()
	if !h.upgraded {
		h.admission.ReleaseHeader() // what a request has become keeps its path
	}
	// From here on the connection is the tracker's to close, and not Shutdown's.
	c.server.forget(c)
	h.listener, h.raw, h.client = c.listener, c.raw, c.stream
	go c.server.tunnel(h)
}

// establish answers 200 and takes all deadlines off the connection.
func (c *conn) establish() bool {
	answer := c.server.established[c.minor]
	// A first answer always fits into the socket's buffer; behind others it may not.
	if c.requests > 0 && c.stream.SetWriteDeadline(time.Now().Add(c.server.config.WriteTimeout)) != nil {
		return false
	}
	if _, err := c.stream.Write(answer); err != nil {
		return false
	}
	return c.stream.SetDeadline(time.Time{}) == nil
}

// readCredential reads the one Proxy-Authorization field.
func (h *head) readCredential() (identity.Credential, error) {
	switch {
	case !h.has.credential:
		return identity.Credential{}, nil // the gate says what is missing
	case h.has.doubled:
		return identity.Credential{}, &identity.Error{Problem: identity.CredentialAmbiguous, Detail: "there are two Proxy-Authorization fields"}
	}
	return identity.ParseCredential(string(h.credential))
}
