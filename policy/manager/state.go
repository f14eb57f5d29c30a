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
	Engine    *rego.Engine
	Workers   *worker.Pool
	deaths    chan policyDeath // that are to be recorded
	Source    Source
	poll      time.Duration
	maxAge    time.Duration // 0: none
	kept      *source.Kept
	Options   rego.Options
	log       *slog.Logger
	Audit     Log
	Notify    Notifier
	before    string                                            // the commit that decided in an earlier process, as far as the disk tells
	Activated func()                                            // told of each commit that began to decide; nil: nobody
	Changed   func(revision policy.Revision, activation uint64) // called with each activation; nil: nobody

	checks     *Checks          // of repositories whose policy has changed
	Rejections Rejections       // of repositories, in the active revision
	unrecorded []rego.Rejection // of them, those that no event reports yet; of the one refresh

	turn      sync.Mutex // one refresh at a time
	good      *rego.Set  // the latest that was taken; decides unless it is too old
	FromDisk  bool       // good was taken from the disk at the start
	history   *policyHistory
	notice    time.Duration   // how long before an exception ends it is announced
	announced map[string]bool // exceptions whose end was, by their key
	candidate *candidate      // nil: none
	confirmed time.Time       // the time on disk
	keptAt    time.Time       // when the last good policy was written to disk
	looked    atomic.Int64    // how many nanoseconds the latest check the source took

	mu      sync.Mutex
	offered policy.Revision // the latest state of the source; its digest is empty where it could not be read
	current string          // and of the one that decides; empty where that is from the disk
	loaded  time.Time       // when the current revision began to decide
	seen    time.Time       // when the source was last seen to offer it
	failure error           // why the latest state does not decide; nil if it does
	retries int             // how often it was loaded again, a loaded machine being a possible cause
	retryAt time.Time       // when it is loaded again
	waiting policy.Revision // a good state that could not be recorded
	tooOld  bool            // nothing decides, for the good one is older than it may be
	refused map[RefusalKind]int
}

// candidate is a policy that is asked what the one that decides was asked, off
// the way of requests. What it says changes nothing.
type candidate struct {
	source  Source
	poll    time.Duration
	options rego.Options
	log     *slog.Logger
	holder  *Manager
	queue   chan policy.Decision
	set     atomic.Pointer[rego.Set]

	evaluated, opens, closes, dropped, failed atomic.Int64

	mu      sync.Mutex
	offered string
	failure error

	// Of the one routine that evaluates.
	known  map[string]bool
	second time.Time
	spent  int
}
