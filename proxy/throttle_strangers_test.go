package proxy

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/policy"
)

// TestStrangersArePaced: clients without a credential are answered at once, unless there
// are too many of them and the client's address has had more than its own rate.
func TestStrangersArePaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv()
		g := w.gate(t)
		ask := func(client string) (delayed bool) {
			a := attempt(name)
			a.Credential = identity.Credential{}
			a.Client = netip.MustParseAddrPort(client)
			_, r := g.Admit(t.Context(), a)
			if r == nil || r.Reason != policy.CredentialMissing {
				t.Fatalf("a request without a credential: %+v", r)
			}
			return r.Throttled
		}
		const flood, other = "198.51.100.8:1", "198.51.100.9:1"
		for i := range 10 * strangersPerSecond { // within the rate
			if ask(flood) {
				t.Fatalf("answer %d of %d a second is delayed", i, strangersPerSecond)
			}
			time.Sleep(time.Second / strangersPerSecond)
		}
		delayed := 0
		for range 1000 { // at once
			if ask(flood) {
				delayed++
			}
		}
		if delayed < 1000-strangersBurst-10 {
			t.Errorf("%d of 1000 answers are delayed", delayed)
		}
		if ask(other) {
			t.Error("the first answer to another address is delayed")
		}
		time.Sleep(time.Second)
		if ask(flood) {
			t.Error("an answer is delayed a second after the flood")
		}
	})
}

// TestStrangersRateIsNeeded: without the rate, every answer of a flood is given at once.
func TestStrangersRateIsNeeded(t *testing.T) {
	var s strangers
	s.addresses.perSecond = 1 << 30 // takes the bound of an address away
	now := time.Now()
	for range 1000 {
		if s.delay(netip.MustParseAddr("198.51.100.8"), now) {
			t.Fatal("an answer is delayed")
		}
	}
}
