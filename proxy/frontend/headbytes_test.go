package frontend

import (
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/fair"
	"github.com/sallyport/sallyport/internal/proxytest"
)

// longHead is the beginning of a request whose head has about so many KiB.
func longHead(kib int) string {
	return "GET http://up.test/ HTTP/1.1\r\nHost: up.test\r\n" + strings.Repeat("A: "+strings.Repeat("v", 1019)+"\r\n", kib)
}

// TestLongHeadsAreBounded: heads that do not end take so much memory, of one address
// and of all. Others get through meanwhile, and so do short heads from that address.
func TestLongHeadsAreBounded(t *testing.T) {
	s := start(t, func(_ *env, c *Config, _ *ListenerConfig) { c.HeadBytesPerClient, c.HeadBytes = 40<<10, 60<<10 })
	s.dial(t).send(longHead(20)) // in a buffer of 32 KiB
	s.awaitHeadBytes(t, "127.0.0.1", 10<<10)
	ask := func(address, head string, status int) {
		t.Helper()
		resp, _ := s.dialFrom(t, address).send(head + good + "\r\n").answer("GET")
		if reason := resp.Header.Get("Sallyport-Reason"); resp.StatusCode != status || status == 503 && reason != "overloaded" {
			t.Errorf("%s got %s %s, want %d", address, resp.Status, reason, status)
		}
	}
	ask("127.0.0.1", longHead(10), 503)
	ask("127.0.0.1", longHead(1), 200)
	ask("127.0.0.2", longHead(10), 200)
	ask("127.0.0.2", longHead(20), 503) // that much is left of neither
	ask("127.0.0.2", longHead(10), 200) // nothing is kept of a head that is answered
}

// TestHeadBytesAreNeeded: without the bound such heads take any amount of memory.
func TestHeadBytesAreNeeded(t *testing.T) {
	s := start(t, nil)
	for range 20 {
		s.dial(t).send(longHead(30))
	}
	if resp, _ := s.dial(t).send(longHead(30) + good + "\r\n").answer("GET"); resp.StatusCode != 200 {
		t.Errorf("got %s", resp.Status)
	}
}

// TestLongHeadsArePaced: heads of more than 16 KiB have a rate by address, so that
// hundreds at once do not delay all other requests; shorter ones have none.
func TestLongHeadsArePaced(t *testing.T) {
	if first, second, short := longHeadsInTurn(t, fair.Config{Repository: fair.Limit{Rate: 1}}); first != 200 || second != 503 || short != 200 {
		t.Errorf("got %d, %d, and %d for a short head", first, second, short)
	}
}

// TestLongHeadRateIsNeeded: without a rate all get through at once.
func TestLongHeadRateIsNeeded(t *testing.T) {
	if first, second, _ := longHeadsInTurn(t, fair.Config{}); first != 200 || second != 200 {
		t.Errorf("got %d, %d", first, second)
	}
}

func longHeadsInTurn(t *testing.T, rate fair.Config) (first, second, short int) {
	s := start(t, func(_ *env, c *Config, _ *ListenerConfig) { c.longHeads = &rate })
	status := func(kib int) int {
		resp, _ := s.dial(t).send(longHead(kib) + good + "\r\n").answer("GET")
		return resp.StatusCode
	}
	return status(20), status(20), status(10)
}

// awaitHeadBytes waits until an address has no room for so many bytes.
func (s *env) awaitHeadBytes(t testing.TB, address string, bytes int64) {
	t.Helper()
	proxytest.Eventually(t, "a long head is in memory", func() bool {
		slot, err := s.server.heads.TryAcquire(fair.Subject{Repository: address}, bytes)
		slot.Release()
		return err != nil
	})
}
