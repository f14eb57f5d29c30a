package frontend

import (
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/destination"
	"github.com/sallyport/sallyport/proxy"
)

// Some clients open a tunnel for http:// and ws:// targets too and then send plain HTTP
// in it (undici, and with it the fetch of Node.js). Where the tunnel's rule requires TLS,
// these requests are served like those in absolute-form: each is decided, recorded and
// sent separately. They are bound to the target of the CONNECT, and use its credential.

// inside is the tunnel that contains requests.
type inside struct {
	host       string // canonical, of the CONNECT
	port       uint16
	credential identity.Credential // of the CONNECT
	client     netip.AddrPort
	peer       netip.Addr
}

// authority is the target in the form of a URL.
func (i *inside) authority() string {
	return net.JoinHostPort(i.host, strconv.Itoa(int(i.port)))
}

// bind gives a request inside a tunnel the absolute-form that it would have outside,
// or refuses a request for another target.
func (i *inside) bind(h *head) *proxy.Refusal {
	elsewhere := malformed("the request inside the tunnel names another target than the CONNECT: open a tunnel for each target")
	for _, f := range h.fields {
		if is(f.name, "host") && len(f.value) > 0 && !i.isTarget("http://"+string(f.value)) {
			return elsewhere
		}
	}
	switch raw := string(h.target); {
	case string(h.method) == "CONNECT":
		return malformed("a CONNECT inside a tunnel is not served")
	case raw[0] == '/':
		h.target = []byte("http://" + i.authority() + raw)
	case raw == "*" && string(h.method) == http.MethodOptions:
		h.target = []byte("http://" + i.authority())
	case raw == "*":
		return malformed("a request for * is an OPTIONS")
	case strings.Contains(raw, "://") && !i.isTarget(raw):
		return elsewhere
	}
	return nil
}

// isTarget reports whether a URL leads to the tunnel's target.
func (i *inside) isTarget(url string) bool {
	t, _, err := destination.ParseAbsolute(url)
	return err == nil && t.Host == i.host && t.Port == i.port
}
