package age

import (
	"testing"
	"time"
)

func TestExceeds(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	for ago, want := range map[time.Duration]bool{
		0: false, time.Hour: false, time.Hour + 1: true, -MaxSkew: false, -MaxSkew - 1: true, -24 * time.Hour: true, 1 << 62: true, -1 << 62: true,
	} {
		if got := Exceeds(now.Add(-ago), now, time.Hour); got != want {
			t.Errorf("%v ago: %t", ago, got)
		}
	}
	if Exceeds(time.Time{}, now, time.Hour) == false {
		t.Error("the zero time is young")
	}
}

// TestAnchor: the age of an anchored time does not depend on the wall clock. Without the
// anchor it does.
func TestAnchor(t *testing.T) {
	t.Parallel()
	now := time.Now()
	stored := now.Round(0).Add(-time.Hour)
	anchored := Anchor(stored, now)
	if !anchored.Round(0).Equal(stored) || now.Sub(anchored) != time.Hour {
		t.Errorf("%v, %v ago", anchored, now.Sub(anchored))
	}
	// The wall clock is set back by a day: the monotonic reading stays.
	setBack := func(at time.Time) time.Time { return at.Round(0).Add(-24 * time.Hour) }
	if setBack(now).Sub(stored) > 0 {
		t.Error("the wall clock does not show what the test is for")
	}
	later := now.Add(time.Minute)
	if later.Sub(anchored) != time.Hour+time.Minute {
		t.Errorf("%v", later.Sub(anchored))
	}
	plain := time.Unix(1e9, 0) // a clock without a monotonic reading
	if got := Anchor(plain.Add(-time.Hour), plain); !got.Equal(plain.Add(-time.Hour)) {
		t.Error(got)
	}
}
