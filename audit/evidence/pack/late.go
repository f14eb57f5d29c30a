package pack

import (
	"time"

	"github.com/sallyport/sallyport/audit"
)

// Late is which events of the period were sealed long after their own time: see
// audit.Lateness. It is not damage.
type Late struct {
	Bound     int64 `json:"bound_minutes"`
	Count     int64 `json:"events"`
	Decisions int64 `json:"decisions"` // of these
	Explained int64 `json:"explained"` // of the events, by an event about the replay of their journal
	Arrived   int64 `json:"after_the_period"`
	Max       int64 `json:"max_seconds"`
	Ahead     int64 `json:"ahead"` // events that are dated after the checkpoint that first covers them
	MaxAhead  int64 `json:"max_ahead_seconds"`
	// Runs are the first ten thousand, with the checkpoints that they name.
	Runs        []LateRun `json:"runs"`
	Checkpoints []string  `json:"checkpoints"`
}

// LateRun are late events of one writer that the same checkpoint was the first to cover.
type LateRun struct {
	Writer      string `json:"writer"`
	FirstNumber int64  `json:"first_number"`
	LastNumber  int64  `json:"last_number"`
	FirstLeaf   int64  `json:"first_leaf"`
	LastLeaf    int64  `json:"last_leaf"`
	Count       int64  `json:"events"`
	Decisions   int64  `json:"decisions"`
	Oldest      string `json:"oldest"`
	Newest      string `json:"newest"`
	Size        int64  `json:"checkpoint_size"`
	Sealed      string `json:"sealed"`         // when that checkpoint was signed
	Journal     int64  `json:"journal_leaf"`   // -1: no event is about the replay of a journal
	Arrived     bool   `json:"after_the_end"`  // sealed later than the bound after the end of the period
	Ahead       bool   `json:"ahead_of_clock"` // dated after the checkpoint
}

// Lateness is how late the oldest event is; below zero: how far the newest is ahead.
func (r *LateRun) Lateness() time.Duration {
	sealed := ParseTime(r.Sealed)
	if r.Ahead {
		return sealed.Sub(ParseTime(r.Newest))
	}
	return sealed.Sub(ParseTime(r.Oldest))
}

// Has reports whether an event of that time is one of the run, by the rule of
// audit.LatenessTracker.
func (r *LateRun) Has(at string, bound int64) bool {
	by := ParseTime(r.Sealed).Unix()/60 - ParseTime(at).Unix()/60
	if r.Ahead {
		return -by > int64(audit.MaxClockSkew/time.Minute)
	}
	return by > bound
}

// Add adds the counts of a run.
func (l *Late) Add(r *LateRun) {
	if r.Ahead {
		l.Ahead += r.Count
		return
	}
	l.Count, l.Decisions = l.Count+r.Count, l.Decisions+r.Decisions
	if r.Arrived {
		l.Arrived += r.Count
	}
}
