package evidence

import (
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
)

// hourCounter counts clock hours (UTC) with a checkpoint, and not checkpoints: old
// ones thin out to the first and the last of each hour, and a pack stays the same.
type hourCounter struct {
	hours  int64
	latest time.Time
}

func (h *hourCounter) checkpoint(s audit.Statement) {
	c, err := audit.ReadCheckpoint(s.Note)
	if err != nil {
		return
	}
	if hour := c.Time.Truncate(time.Hour); h.hours == 0 || !hour.Equal(h.latest) {
		h.latest = hour
		h.hours++
	}
}

// silencesOf are the silences that overlap the period. What begins one is the last
// checkpoint of its hour and what ends it the first, which thinning leaves.
func silencesOf(c audit.Cadence, p pack.Period) []audit.Silence {
	var list []audit.Silence
	for _, s := range c.Silences {
		if s.From.Before(p.To) && s.To.After(p.From) {
			list = append(list, s)
		}
	}
	return list
}
