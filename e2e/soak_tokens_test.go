//go:build soak

package e2e

import (
	"testing"
	"time"
)

// TestSoakForgedTokens sends a thousand forged tokens a second for a minute: the
// issuer is queried once in five seconds at most, and honest steps continue.
func TestSoakForgedTokens(t *testing.T) {
	w := newFixture(t, options{})
	w.start()
	before := w.counter(t, "process_resident_memory_bytes")
	f := w.forgeries(t, 1000, time.Minute)
	f.check(t)
	t.Logf("resident: %.0f MB before, %.0f MB after", before/1e6, w.counter(t, "process_resident_memory_bytes")/1e6)
	if rate := float64(f.sent) / f.took.Seconds(); rate < 900 {
		t.Errorf("this machine sent %.0f a second only: nothing is shown", rate)
	}
}
