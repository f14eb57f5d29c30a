package sealer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// errKeyRotated is the [ErrNoKey] of an instance whose operator has rotated the key and
// has not given it the next one yet.
var errKeyRotated = fmt.Errorf("%w any more", ErrNoKey)

// A Publisher takes checkpoints to a place that a login which can change the database
// cannot change. It is used by one goroutine at a time, and never waited for by
// those who record.
type Publisher interface {
	// Name is the name of the place, for operators.
	Name() string
	// Recent returns the newest checkpoints that the place has, some hundreds at
	// most, in any order; none where it has none, or cannot be read back. All of
	// them are compared with the database: the largest is not enough, because an
	// instance on another branch of the log may have published it.
	Recent(ctx context.Context) ([][]byte, error)
	// Publish returns nil when the place has the signed note for good. Where it
	// fails it is called again, with this note or a newer one.
	Publish(ctx context.Context, note []byte) error
}

// Config configures how a log is sealed. A zero field is its default.
type Config struct {
	URL string // the database, as the role sallyport_sealer or a member of it
	Log *slog.Logger
	// Writer is the name of our own writer at this moment, which is not looked
	// for among the lost. Nil: there is none.
	Writer func() string
	// Record makes an event of ours durable.
	Record func(context.Context, *audit.Event) error
	// Signer is this instance's key; nil: it has none.
	Signer *audit.Signer
	// NewSigner makes a key and keeps it for the next start. It is called where
	// the log has no key and this instance has none. Nil: none is made.
	NewSigner func() (*audit.Signer, error)
	// ReadSigner reads this instance's key again, where the present one may not sign:
	// an operator has rotated it. Nil: it is not read again.
	ReadSigner func() (*audit.Signer, error)
	Publishers []Publisher
	// Interval is how often what was recorded since is sealed. Default 5 s.
	Interval time.Duration
	// Now is the clock of checkpoints and heartbeats. Nil: [time.Now].
	Now func() time.Time
	// LostAfter is how long a writer without its end may have no session before
	// that is recorded. Default 15 s.
	LostAfter time.Duration
	// PatienceWithOthers is how long another session may have the turn to seal
	// without sealing anything, while there is something to seal. Default 20 s.
	PatienceWithOthers time.Duration
	// CompareInterval is how often the places are compared with the database, beside
	// each new connection. Default 1 min.
	CompareInterval time.Duration
	// HeartbeatInterval is how old the latest checkpoint may become before another of
	// the same size is signed. Default [audit.HeartbeatInterval].
	HeartbeatInterval time.Duration
	// Batch bounds the leaves of one checkpoint. Default 20,000.
	Batch int
}

// Reasons for which an instance does not seal, wrapped in what an operator
// should know.
var (
	// ErrNoKey: another key is the log's.
	ErrNoKey = errors.New("this instance does not have the key that signs this log")
	// ErrBehind: a checkpoint outside covers more than the database has.
	ErrBehind = errors.New("the database is behind a published checkpoint: it was restored from a backup, or its end was cut off")
	// ErrForked: the database has another root at the size of a checkpoint that was
	// published, or that this instance saw.
	ErrForked = errors.New("the database holds another log than was published: it forked")
	// ErrMayNotSeal: the login lacks the privilege.
	ErrMayNotSeal = errors.New("the login may not seal the audit log")
	// ErrNoProgress: a session of a login that may seal holds the sealing lock and seals nothing.
	ErrNoProgress = errors.New("another session has the turn to seal and seals nothing; its transaction has a lock on audit.locks in pg_locks: end it with pg_terminate_backend")
)

// PlaceStatus is what is known of a place of publication.
type PlaceStatus struct {
	Name   string
	Size   int64 // of the latest checkpoint that it has
	Failed int64 // attempts that failed
	Err    error // of the latest attempt; nil: it has what it should
}
