// Package age measures the age of times that another process or an earlier run has stored. A
// clock that is set back must not make something old young again.
package age

import "time"

// MaxSkew is how far a stored time may be in the future. The age of a time beyond that is not
// known: the clock was set back after it was stored.
const MaxSkew = 5 * time.Minute

// Anchor returns a stored time with the monotonic clock reading of now, as far as now has one.
// Its age later grows with the monotonic clock, whatever happens to the wall clock (package
// time, "Monotonic Clocks"). Call it once, when the time is loaded.
func Anchor(stored, now time.Time) time.Time { return now.Add(stored.Sub(now.Round(0))) }

// Exceeds reports whether a time is older than the maximum age, or its age is not known.
func Exceeds(at, now time.Time, maximum time.Duration) bool {
	age := now.Sub(at)
	return age > maximum || age < -MaxSkew
}
