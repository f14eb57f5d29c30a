package manager

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/internal/worker"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/rego"
	"github.com/sallyport/sallyport/policy/source"
)

// Manager keeps the engine at the latest good revision of the source.
type Manager struct {
	engine    *rego.Engine
	options   rego.Options
	workers   *worker.Pool
	deaths    chan policyDeath // that are to be recorded
	source    Source
	poll      time.Duration
	maxAge    time.Duration // 0: none
	kept      *source.Kept
	log       *slog.Logger
	notifier  Notifier                                          // nil: none
	audit     Log                                               // set by RecordFirst
	activated func()                                            // called after each activation of a commit is recorded; nil: none
	changed   func(revision policy.Revision, activation uint64) // called after each activation; nil: none

	requests chan struct{} // one value: a refresh is requested that has not begun

	checks     *Checks          // of repositories whose policy has changed
	rejections Rejections       // of repositories, in the active revision
	unrecorded []rego.Rejection // of them, those without an event; of the one refresh

	refreshMu        sync.Mutex // one refresh at a time
	lastGood         *rego.Set  // the latest good set; active unless it exceeds maxAge
	previousCommit   string     // the commit that was active in an earlier process, as far as the disk has it
	fromDisk         bool       // good was read from the disk at the start
	history          *policyHistory
	expiryWarning    time.Duration   // how long before its end an exception is announced
	recordedExpiring map[string]bool // exceptions whose end was announced, by their key
	candidate        *candidate      // nil: none
	confirmedOnDisk  time.Time       // the time on disk
	savedAt          time.Time       // when the last good policy was written to disk
	pollDuration     atomic.Int64    // of the latest poll of the source, in nanoseconds

	mu                 sync.Mutex
	offered            policy.Revision // the latest state of the source; its digest is empty where it could not be read
	current            string          // digest of the active state; empty where that is from the disk
	loaded             time.Time       // when the current revision became active
	lastConfirmed      time.Time       // when the source last offered the active revision
	failure            error           // why the latest state is not active; nil if it is
	retries            int             // how often it was loaded again, a loaded machine being a possible cause
	retryAt            time.Time       // when it is loaded again
	unrecordedRevision policy.Revision // a good state that could not be recorded
	expired            bool            // no revision is active, for the good one exceeds maxAge
	rejectionCounts    map[RejectionKind]int
}

// candidate is a policy that is evaluated for the same inputs as the active one, after the
// decisions. Its results change nothing.
type candidate struct {
	requests chan struct{} // one value: a refresh is requested that has not begun

	source  Source
	poll    time.Duration
	options rego.Options
	log     *slog.Logger
	manager *Manager
	queue   chan offered
	set     atomic.Pointer[rego.Set]

	evaluated, opens, closes, reroutes, dropped, failed atomic.Int64

	mu      sync.Mutex
	offered string
	failure error

	// Of the one routine that evaluates.
	recorded         map[string]bool
	windowStart      time.Time
	recordedInWindow int
}
