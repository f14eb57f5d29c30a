package audit

import (
	"testing"
	"time"
)

func TestFormatDuration(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0 s", 400 * time.Millisecond: "0 s", 1500 * time.Millisecond: "2 s", 90 * time.Second: "1 min 30 s", 2 * time.Hour: "2 h",
		3430*time.Hour + 44*time.Minute + 17*time.Second: "142 d 22 h", 24*time.Hour + time.Minute: "1 d", -61 * time.Second: "-1 min 1 s",
	} {
		if got := FormatDuration(d); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
}
