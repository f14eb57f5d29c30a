package manager

import "time"

// After a requested refresh, the next requested one begins no sooner than after a pause: of
// requestPauseMin, or of as long as the source took, up to requestPauseMax. Together with
// the time of a notification, the pause stays below the second within which a refresh is
// promised to begin. A poll is not delayed.
const (
	requestPauseMin = 200 * time.Millisecond
	requestPauseMax = 700 * time.Millisecond
)

func requestPause(took time.Duration) time.Duration {
	return min(max(took, requestPauseMin), requestPauseMax)
}

// RequestRefresh makes [Manager.Follow] poll the source at once, and that of the candidate
// within a second. It does not block and is
// safe for concurrent use. Each request is followed by a poll that begins after the request,
// also if a poll is under way; requests that come before that poll begins share it. A state
// that was rejected before is not loaded again.
func (p *Manager) RequestRefresh() {
	request(p.requests)
	if p.candidate != nil {
		request(p.candidate.requests)
	}
}

func request(requests chan<- struct{}) {
	select {
	case requests <- struct{}{}:
	default: // the next poll has not begun
	}
}
