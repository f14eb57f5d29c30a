package forwarder

import (
	"net/http"
	"net/netip"
	"testing"

	"github.com/sallyport/sallyport/internal/proxytest"
	"github.com/sallyport/sallyport/step/internal/steptest"
)

// TestContainersHaveTheirOwnConnections: a container that holds every connection of the
// listener for containers does not keep the step's own tools out. Without connections of
// their own, it does.
func TestContainersHaveTheirOwnConnections(t *testing.T) {
	t.Parallel()
	for _, shared := range []bool{false, true} {
		e := start(t, func(c *Config, _ *upstreamConfig) {
			c.MaxConnections = 2
			c.ownAddress = func(netip.Addr) bool { return false } // the test's client is a container
		})
		if shared {
			e.containerSlots = e.slots // the control is removed
		}
		l := proxytest.Listen(t, "127.0.0.1:0")
		served := make(chan error, 1)
		go func() { served <- e.ServeNetworks(l, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}) }()
		container := *e
		container.address = l.Addr().String()
		for range 2 {
			container.dial(t).send("CONNECT half.a.head") // and nothing more
		}
		proxytest.Eventually(t, "the container holds its connections", func() bool { return len(e.containerSlots) == cap(e.containerSlots) })
		resp, _ := e.dial(t).send("CONNECT " + steptest.Denied + ":443 HTTP/1.1\r\n\r\n").answer(http.MethodConnect)
		if want := map[bool]int{false: http.StatusForbidden, true: http.StatusServiceUnavailable}[shared]; resp.StatusCode != want {
			t.Errorf("shared %t: a tool of the step got %s, want %d", shared, resp.Status, want)
		}
		e.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}
}
