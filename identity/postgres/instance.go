package postgres

import (
	"crypto/rand"
	"encoding/hex"
	"time"
)

// An instance confirms what it has read by the name of the session that it reads
// with: "sallyport revocations INSTANCE TIME", where TIME is the database's clock,
// in microseconds, before it began to read. Every login may see the names of
// sessions, nothing is written for it, and it ends with the session. Its pooled
// sessions show an instance that has no such session at the moment.
const (
	readerName = "sallyport revocations "
	poolName   = "sallyport identity "
)

const (
	confirmTimeout = 3 * time.Second // an instance reads once a second, and when it is notified
	confirmPoll    = 25 * time.Millisecond
)

// newInstance returns a name for a process.
func newInstance() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // it does not fail (crypto/rand)
	return hex.EncodeToString(b[:])
}
