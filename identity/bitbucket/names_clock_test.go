package bitbucket

import (
	"testing"
	"time"

	"github.com/sallyport/sallyport/identity"
)

// TestNameFromTheFuture: a name that was fetched before the clock was set back is not served
// for longer than its maximum age: it is fetched again.
func TestNameFromTheFuture(t *testing.T) {
	t.Parallel()
	n, now := &names{config: &Config{NameMaxAge: time.Hour}}, time.Unix(1e9, 0)
	for ago, want := range map[time.Duration]bool{0: true, time.Hour - 1: true, time.Hour: false, -time.Minute: true, -24 * time.Hour: false} {
		if got := n.serves(&nameEntry{name: identity.KnownName{FetchedAt: now.Add(-ago)}}, now); got != want {
			t.Errorf("fetched %v ago: served %t", ago, got)
		}
	}
}
