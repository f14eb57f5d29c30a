package pack

import "time"

// Period is what a pack is about: From is in it, To is not. Both are in UTC.
type Period struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

// Contains reports whether the time of a record is in a period. Times of
// records have one form and one zone, so that text is compared.
func (p Period) Contains(at string) bool {
	t, err := time.Parse(time.RFC3339Nano, at)
	return err == nil && !t.Before(p.From) && t.Before(p.To)
}

// Leads reports whether the time of a record is before a period, by no more
// than d.
func (p Period) Leads(at string, d time.Duration) bool {
	t, err := time.Parse(time.RFC3339Nano, at)
	return err == nil && t.Before(p.From) && !t.Before(p.From.Add(-d))
}

func ParseTime(text string) time.Time {
	t, _ := time.Parse(time.RFC3339Nano, text) // zero: long ago
	return t
}

func FormatTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000000Z")
}
