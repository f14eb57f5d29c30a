package policycmd

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// TestRolloutAgreesWithSuggest: for the same close reasons of a target, rollout shows the
// keys that suggest writes, and what no key accepts.
func TestRolloutAgreesWithSuggest(t *testing.T) {
	for _, c := range []struct {
		reasons []string
		keys    []string
		remedy  string
	}{
		{[]string{"hello_encrypted"}, []string{`"ech": true`}, `"ech": true`},
		{[]string{"hello_missing", "hello_encrypted"}, []string{`"ech": true`, `"no_sni": true`}, `"ech": true, "no_sni": true`},
		{[]string{"hello_encrypted", "hello_invalid"}, []string{`"protocol": "any"`}, `"protocol": "any"`},
		{[]string{"hello_mismatch"}, nil, "no key accepts hello_mismatch: correct the client"},
		{[]string{"hello_encrypted", "hello_mismatch"}, []string{`"ech": true`}, `"ech": true, no key accepts hello_mismatch: correct the client`},
		{[]string{"later\n"}, nil, `no key accepts "later\n": correct the client`},
	} {
		r, u := &rolloutRow{Repository: "acme/website"}, &use{closed: map[string]int64{}}
		for i, reason := range c.reasons {
			r.addContinued(&audit.Continued{Time: time.Unix(int64(100+i), 0).UTC(), Host: "fonts.example", Port: 443, CloseReason: reason})
			u.closed[reason]++
		}
		r.finishContinued()
		got := r.Continued[0]
		if !slices.Equal(got.Relaxations, c.keys) || !slices.Equal(u.relaxations(), got.Relaxations) || got.remedy() != c.remedy {
			t.Errorf("%q: %q, suggest %q, %q", c.reasons, got.Relaxations, u.relaxations(), got.remedy())
		}
		if got.Tunnels != int64(len(c.reasons)) || r.WouldClose != got.Tunnels || !got.LastSeen.Equal(time.Unix(int64(99+len(c.reasons)), 0)) {
			t.Errorf("%q: %+v", c.reasons, got)
		}
		var b strings.Builder
		printContinued(&b, []*rolloutRow{r})
		if !strings.Contains(b.String(), "acme/website  -           fonts.example:443") || strings.Count(b.String(), "\n") != 4 {
			t.Errorf("%q: %q", c.reasons, b.String())
		}
	}
}

// TestContinuedTargetsAreBounded: a log with any number of targets takes bounded memory,
// and the tunnels that are not listed are counted.
func TestContinuedTargetsAreBounded(t *testing.T) {
	r := &rolloutRow{Repository: "acme/website"}
	for port := range maxUses + 3 {
		r.addContinued(&audit.Continued{Time: time.Unix(100, 0), Host: "a.example", Port: port + 1, CloseReason: "hello_missing"})
	}
	r.finishContinued()
	var b strings.Builder
	printContinued(&b, []*rolloutRow{r})
	if len(r.Continued) != maxUses || r.WouldClose != maxUses+3 || !strings.Contains(b.String(), "\n3 tunnels to further targets are not listed") {
		t.Errorf("%d targets, %d tunnels: %s", len(r.Continued), r.WouldClose, b.String()[b.Len()-120:])
	}
}
