package frontend

import (
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/policy"
)

// TestOtherProtocolsOnTLSListener: a client of another protocol than TLS gets its
// protocol's refusal, at once and whatever its first write holds, is counted, and is named
// in the log once.
func TestOtherProtocolsOnTLSListener(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"in service": func(*Config) {},
		"full":       func(c *Config) { c.MaxConnections = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, func(s *env, c *Config, lc *ListenerConfig) {
				_, lc.TLS = certificate(t)
				c.LingerTimeout, c.HandshakeTimeout = 20*time.Second, 20*time.Second // nothing waits for so long
				change(c)
			})
			if name == "full" {
				s.dial(t) // a silent connection takes the one place
				for s.server.Connections() == 0 {
					runtime.Gosched()
				}
			}
			for _, c := range []struct{ sent, want string }{
				{"\x05\x01\x00", "\x05\xff"},
				{"\x05", "\x05\xff"},
				{"\x05\x02\x00\x02", "\x05\xff"},
				{"\x04\x01\x01\xbb\x00\x00\x00\x01name\x00a.example\x00", "\x00\x5b\x00\x00\x00\x00\x00\x00"},
				{"\x00\x00\x00\x08\x04\xd2\x16\x2f", ""},
				{"\x00", ""},
				{"\x80\x2e\x01\x00\x02", ""}, // SSL 2
			} {
				before := s.counter.count(policy.TLSRequired)
				client := s.dial(t).send(c.sent)
				_ = client.CloseWrite()
				got, _ := io.ReadAll(client.Stream) // a reset is as good as an end
				if string(got) != c.want {
					t.Errorf("%q got %q, want %q", c.sent, got, c.want)
				}
				if n := s.counter.count(policy.TLSRequired); n != before+1 {
					t.Errorf("%q: counted %d times", c.sent, n-before)
				}
			}
			protocols := strings.Count(s.log.String(), "SOCKS5")
			if protocols != 1 {
				t.Errorf("the log names the protocol %d times, want once: %s", protocols, s.log.String())
			}
		})
	}
}

// TestAuthorizationIsNotProxyAuthorization: a token in the target's field is named in the
// refusal, and is not a credential for this proxy.
func TestAuthorizationIsNotProxyAuthorization(t *testing.T) {
	s := start(t, nil)
	for _, request := range []string{
		"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n",
		"GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n",
	} {
		for field, named := range map[string]bool{"": false, strings.TrimPrefix(good, "Proxy-"): true, "AUTHORIZATION: x\r\n": true} {
			resp, body := s.dial(t).send(request + field + "\r\n").answer("GET")
			if resp.StatusCode != 407 || resp.Header.Get("Sallyport-Reason") != "credential_missing" || !strings.HasPrefix(resp.Header.Get("Proxy-Authenticate"), "Basic ") {
				t.Errorf("%q: got %v", request+field, resp)
			}
			if strings.Contains(body, "Authorization is for the target and not for this proxy") != named {
				t.Errorf("%q: the body is %q", request+field, body)
			}
		}
	}
}
