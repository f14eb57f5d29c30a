package manager

import (
	"time"

	"github.com/sallyport/sallyport/policy/rego"
)

// A state of the policy that was rejected is loaded again where a loaded machine may
// have been the cause: after stateRetryFirst, doubled each time up to stateRetryMax.
const (
	stateRetryFirst = time.Minute
	stateRetryMax   = time.Hour
)

// scheduleRetry sets when a rejected state may be loaded again. again is set if the same
// state was rejected before. The lock is held.
func (p *Manager) scheduleRetry(again bool) {
	if !again {
		p.retries = 0
	}
	p.retryAt = time.Now().Add(min(stateRetryMax, stateRetryFirst<<min(p.retries, 16)))
	p.retries++
}

// retryDue reports whether a rejected state is loaded again. The lock is held.
func (p *Manager) retryDue() bool {
	return rego.Retryable(p.failure) && time.Now().After(p.retryAt)
}
