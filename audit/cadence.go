package audit

import (
	"cmp"
	"fmt"
	"time"
)

// Intervals of checkpoints.
const (
	// HeartbeatInterval is how often a checkpoint is signed although no event is to
	// be sealed. It is less than an hour, so that every clock hour has a checkpoint
	// while an instance seals.
	HeartbeatInterval = 50 * time.Minute
	// DefaultMaxSilence is how far apart two checkpoints may be signed without being
	// reported. Old checkpoints thin out to the last of every clock hour: two of
	// these are less than two hours apart.
	DefaultMaxSilence = 2 * time.Hour
)

// A Silence is a time in which no checkpoint of the log was signed, although an
// instance that seals signs one every [HeartbeatInterval]: no instance sealed. It is not
// damage (all of them may have been stopped), but nothing proves when the events that
// the next checkpoint covers were recorded.
type Silence struct {
	From time.Time `json:"from"` // the signed time of the checkpoint before it
	To   time.Time `json:"to"`   // and of the one after it
	Size int64     `json:"size"` // leaves under the checkpoint before it
}

// String is one line for people.
func (s Silence) String() string {
	return fmt.Sprintf("no instance sealed between %s and %s (%s), after the checkpoint of size %d",
		s.From.UTC().Format(time.RFC3339), s.To.UTC().Format(time.RFC3339), FormatDuration(s.To.Sub(s.From)), s.Size)
}

// Cadence is the result of comparing the signed times of a log's checkpoints.
type Cadence struct {
	Bound    time.Duration
	Count    int64     // silences longer than the bound
	Silences []Silence // the first maxSilences
	Latest   time.Time // the signed time of the latest checkpoint that holds
	// Backward counts checkpoints that were signed before the one before them: the
	// signer's clock went back. MaxBackward is the largest step.
	Backward    int64
	MaxBackward time.Duration
}

// SilentSince returns for how long no checkpoint has been signed, if that is over
// the bound at this time; zero if it is not, or without any checkpoint.
func (c Cadence) SilentSince(now time.Time) time.Duration {
	if silent := now.Sub(c.Latest); !c.Latest.IsZero() && silent > c.Bound {
		return silent
	}
	return 0
}

// maxSilences bounds what is listed. All are counted.
const maxSilences = 1000

// A CadenceTracker compares the signed times of checkpoints, in the order of the
// log. It is not safe for concurrent use.
type CadenceTracker struct {
	found Cadence
	size  int64
}

// NewCadenceTracker returns a tracker; a bound of 0 is [DefaultMaxSilence].
func NewCadenceTracker(bound time.Duration) *CadenceTracker {
	return &CadenceTracker{found: Cadence{Bound: cmp.Or(bound, DefaultMaxSilence)}}
}

// Checkpoint adds the next valid checkpoint.
func (t *CadenceTracker) Checkpoint(size int64, signed time.Time) {
	f := &t.found
	switch apart := signed.Sub(f.Latest); {
	case f.Latest.IsZero():
	case apart < 0:
		f.Backward++
		f.MaxBackward = max(f.MaxBackward, -apart)
	case apart > f.Bound:
		f.Count++
		if len(f.Silences) < maxSilences {
			f.Silences = append(f.Silences, Silence{From: f.Latest, To: signed, Size: t.size})
		}
	}
	f.Latest, t.size = signed, size
}

// Report returns the result so far.
func (t *CadenceTracker) Report() Cadence { return t.found }
