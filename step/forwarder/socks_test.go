package forwarder

import (
	"encoding/binary"
	"strconv"
	"testing"

	"github.com/sallyport/sallyport/internal/proxytest"
)

// socksRequest is a SOCKS 5 client's greeting and request for a name.
func socksRequest(host, port string) string {
	n, _ := strconv.ParseUint(port, 10, 16)
	b := append([]byte{5, 1, 0, 5, 1, 0, 3, byte(len(host))}, host...)
	return string(binary.BigEndian.AppendUint16(b, uint16(n)))
}

// TestSOCKS: a client on the port of the HTTP proxy, whose first bytes come together.
func TestSOCKS(t *testing.T) {
	t.Parallel()
	e := start(t, nil)
	target := proxytest.Serve(t, proxytest.Echo)
	c := e.dial(t).send(socksRequest("allowed.test", target.Port) + "early")
	c.expect("\x05\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00early")
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest := c.rest(); rest != "" {
		t.Errorf("rest %q", rest)
	}
	for host, code := range map[string]string{"denied.test": "\x02", "unresolved.test": "\x04", "a b": "\x04"} {
		e.dial(t).send(socksRequest(host, "443")).expect("\x05\x00\x05" + code)
	}
	e.printed.line(t, "denied denied.test:443: policy_denied")
}

// TestOtherProtocols: a client that speaks something else is answered in its protocol, and
// the remedy is printed once.
func TestOtherProtocols(t *testing.T) {
	t.Parallel()
	e := start(t, nil)
	for range 2 {
		e.dial(t).send("\x04\x01\x01\xbb\x01\x02\x03\x04\x00").expect("\x00\x5b")
		e.dial(t).send("\x16\x03\x01\x02\x00\x01").expect("\x15\x03\x01\x00\x02\x02\x28")
		e.dial(t).send("\x05\x01\x02").expect("\x05\xff")
	}
	for _, text := range []string{"speaks SOCKS 4", "speaks TLS", "requires authentication"} {
		e.printed.line(t, text)
	}
}
