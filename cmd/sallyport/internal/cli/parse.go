package cli

import (
	"fmt"
	"strings"
	"time"
)

// ParseTime reads a time: RFC 3339, a date, or how long ago, such as 30d or 12h.
func ParseTime(given string, now time.Time) (time.Time, error) {
	if given == "" || given == "now" {
		return now, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if at, err := time.Parse(layout, given); err == nil {
			return at.UTC(), nil
		}
	}
	ago := given
	factor := time.Duration(1)
	if days, ok := strings.CutSuffix(given, "d"); ok {
		ago, factor = days+"h", 24
	}
	if d, err := time.ParseDuration(ago); err == nil && d >= 0 && d < 200*365*24*time.Hour/factor {
		return now.Add(-d * factor), nil
	}
	return time.Time{}, fmt.Errorf("%q is not a time: write 30d or 12h for so long ago, 2026-11-21, or 2026-11-21T08:40:00Z", given)
}
