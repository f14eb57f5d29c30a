package audit

import (
	"fmt"
	"time"
)

// FormatDuration returns a duration, in whole seconds, for people: its two largest
// units, as in "142 d 22 h". A negative duration has a minus sign.
func FormatDuration(d time.Duration) string {
	if d = d.Round(time.Second); d < 0 {
		return "-" + FormatDuration(-d)
	}
	units := []struct {
		name string
		size time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"min", time.Minute}, {"s", time.Second}}
	for i, u := range units {
		n := d / u.size
		if n == 0 {
			continue
		}
		text := fmt.Sprintf("%d %s", n, u.name)
		if i+1 < len(units) {
			if rest := d % u.size / units[i+1].size; rest > 0 {
				text += fmt.Sprintf(" %d %s", rest, units[i+1].name)
			}
		}
		return text
	}
	return "0 s"
}
