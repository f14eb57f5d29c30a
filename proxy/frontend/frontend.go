// Package frontend serves the listeners: it reads HTTP/1 requests from connections,
// strictly and within bounds, passes each to the gate, answers refusals, opens
// tunnels and passes absolute-form requests to a [Forwarder].
//
// The package does not use net/http to read requests. The server of net/http repairs what
// this proxy has to refuse (bare line feeds, a CONNECT's path or user information,
// doubled fields), keeps buffers for the life of a tunnel, and decides by itself when a
// connection continues. Here a head has one meaning, or is refused: the parser refuses
// what RFC 9112 does not allow, and most of what it allows a lenient recipient to repair.
package frontend

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/eviction"
	"github.com/sallyport/sallyport/internal/fair"
	"github.com/sallyport/sallyport/policy"
)

// never are the request fields that policy does not see, whatever is configured.
var never = []string{"authorization", "proxy-authorization", "cookie", "set-cookie"}

// New returns a server without listeners, or an error that names what is missing.
func New(c Config) (*Server, error) {
	switch {
	case c.Gate == nil:
		return nil, errors.New("frontend: a server needs a Gate")
	case c.Tracker == nil:
		return nil, errors.New("frontend: a server needs a Tracker")
	case c.Forwarder == nil:
		return nil, errors.New("frontend: a server needs a Forwarder")
	case (c.Steps == nil) != (c.Authenticator == nil):
		return nil, errors.New("frontend: Steps and Authenticator are given together or not at all")
	}
	c = c.withDefaults()
	if c.MaxHeadBytes < identity.MaxCredentialBytes+4<<10 {
		return nil, fmt.Errorf("frontend: a head of %d bytes cannot hold a credential of %d: allow at least %d",
			c.MaxHeadBytes, identity.MaxCredentialBytes, identity.MaxCredentialBytes+4<<10)
	}
	for _, name := range []string{c.Name, c.Pseudonym} {
		if !isToken([]byte(name)) {
			return nil, fmt.Errorf("frontend: the name %q is not a token of letters, digits and hyphens", name)
		}
	}
	s := &Server{
		config:    c,
		allowed:   make(map[string]bool, len(c.Headers)),
		listeners: make(map[net.Listener]struct{}),
		conns:     make(map[*conn]struct{}),
		drained:   make(chan struct{}),
		reading:   fair.New(stepRequests),
		checking:  fair.New(networkChecks),
		downloads: fair.New(binaryDownloads),
		heads:     headShares(c.HeadBytes, c.HeadBytesPerClient),
		longHeads: fair.New(*c.longHeads),
		idle:      eviction.New(c.MaxIdle, c.MaxIdlePerClient),
	}
	for _, name := range c.Headers {
		name = strings.ToLower(name)
		if !isToken([]byte(name)) {
			return nil, fmt.Errorf("frontend: %q is not the name of a header field", name)
		}
		for _, secret := range never {
			if name == secret {
				return nil, fmt.Errorf("frontend: header field %q carries secrets, and policy's input is stored: leave it out", name)
			}
		}
		s.allowed[http.CanonicalHeaderKey(name)] = true
	}
	for minor := range s.established {
		s.established[minor] = establishedAnswer(minor, c.Name)
	}
	s.context, s.cancel = context.WithCancel(context.Background())
	s.buffers.New = func() any { return &buffer{b: make([]byte, firstBuffer)} }
	return s, nil
}

func (ignore) Refused(string, policy.Reason) {}
func (ignore) Panicked(string)               {}
