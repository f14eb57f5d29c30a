package bitbucketapi

import "time"

// Bucket is a token bucket: a number of requests at once, and then one per interval.
// It is not safe for concurrent use.
type Bucket struct {
	size     float64
	interval time.Duration
	have     float64
	at       time.Time
}

// NewBucket returns a full bucket.
func NewBucket(size float64, interval time.Duration) Bucket {
	return Bucket{size: size, interval: interval, have: size}
}

// Take removes one token if that leaves at least keep-1 tokens. It reports whether it
// removed one.
func (b *Bucket) Take(now time.Time, reserve float64) bool {
	if !b.at.IsZero() && now.After(b.at) {
		b.have = min(b.size, b.have+float64(now.Sub(b.at))/float64(b.interval))
	}
	b.at = now
	if b.have < reserve {
		return false
	}
	b.have--
	return true
}

// Put returns one token.
func (b *Bucket) Put() { b.have = min(b.size, b.have+1) }

// Wait returns the time until the bucket has one token, as of the latest Take.
func (b *Bucket) Wait() time.Duration {
	return max(0, time.Duration((1-b.have)*float64(b.interval)))
}
