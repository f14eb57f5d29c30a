package proxy

import (
	"net/netip"
	"testing"
)

// The end of an admission names the address of a reused connection, and accepts none that
// was not pinned.
func TestReachedAcceptsOnlyPinnedAddresses(t *testing.T) {
	for to, want := range map[string]string{
		"203.0.114.7:443":          "203.0.114.7",
		"[::ffff:203.0.114.7]:443": "203.0.114.7",
		"203.0.114.8:443":          "",
		"203.0.114.7:80":           "",
	} {
		c, g := newCrowd(t, Limits{})
		a, _ := ask(t, g, 1, 1)
		if ok := a.Reached(netip.MustParseAddrPort(to)); ok != (want != "") {
			t.Errorf("%s: %v", to, ok)
		}
		a.Close(Outcome{Cause: CauseFinished})
		got := c.events()[1].DialedAddress
		if want == "" && got.IsValid() || want != "" && got.String() != want {
			t.Errorf("%s: the end names %s", to, got)
		}
	}
}
