package proxy

import (
	"fmt"
	"net/http"
	"sync/atomic"

	"github.com/sallyport/sallyport/policy"
)

// meter counts the bytes of one direction of an admission on the connection to
// its target, and enforces the byte limits of the decision. Bytes are reserved
// before they move, so that concurrent tunnels and requests of one step cannot
// pass its limit together. It is safe for concurrent use.
type meter struct {
	moved     atomic.Int64
	limit     int64         // of this admission; 0: none
	step      *atomic.Int64 // of all admissions of the step; nil: not counted
	stepLimit int64         // 0: none
}

// reserve counts up to n bytes and returns how many of them may move.
func (m *meter) reserve(n int) int {
	granted := addUpTo(&m.moved, n, m.limit)
	if m.step == nil {
		return granted
	}
	ofStep := addUpTo(m.step, granted, m.stepLimit)
	if ofStep < granted {
		m.moved.Add(int64(ofStep - granted))
	}
	return ofStep
}

// unreserve takes back n reserved bytes that did not move.
func (m *meter) unreserve(n int) {
	if n <= 0 {
		return
	}
	m.moved.Add(int64(-n))
	if m.step != nil {
		m.step.Add(int64(-n))
	}
}

// addUpTo adds n to a count, or less if its limit would be exceeded, and returns what
// it added. A limit of 0 is not a limit.
func addUpTo(count *atomic.Int64, n int, limit int64) int {
	if limit <= 0 {
		count.Add(int64(n))
		return n
	}
	for {
		old := count.Load()
		granted := max(min(int64(n), limit-old), 0)
		if granted == 0 || count.CompareAndSwap(old, old+granted) {
			return int(granted)
		}
	}
}

// room returns how many bytes could be reserved now, at most want.
func (m *meter) room(want int) int {
	if m.limit > 0 {
		want = int(min(int64(want), m.limit-m.moved.Load()))
	}
	if m.stepLimit > 0 {
		want = int(min(int64(want), m.stepLimit-m.step.Load()))
	}
	return max(want, 0)
}

// isBounded reports whether there is a limit.
func (m *meter) isBounded() bool { return m.limit > 0 || m.stepLimit > 0 }

// isStepNearer reports whether the step's limit is nearer than the admission's.
func (m *meter) isStepNearer() bool {
	return m.stepLimit > 0 && (m.limit == 0 || m.stepLimit-m.step.Load() < m.limit-m.moved.Load())
}

// setQuota sets the limits of the admission's decision. If spent is not nil, bytes
// also count for the step.
func (a *Admission) setQuota(spent *byteQuota) {
	limits := a.Decision.Limits
	a.quota = spent
	a.sent.limit, a.received.limit = limits.Sent, limits.Received
	if spent != nil {
		a.sent.step, a.sent.stepLimit = &spent.sent, limits.StepSent
		a.received.step, a.received.stepLimit = &spent.received, limits.StepReceived
	}
}

// ReserveSent counts n bytes that are about to be written to the target, head and
// framing included, and returns how many of them may be: fewer than n once a
// limit of the decision is reached. It is safe for concurrent use.
func (a *Admission) ReserveSent(n int) (granted int) { return a.sent.reserve(n) }

// UnreserveSent takes back n bytes that [Admission.ReserveSent] granted and that
// were not written.
func (a *Admission) UnreserveSent(n int) { a.sent.unreserve(n) }

// ReserveReceived is [Admission.ReserveSent] for bytes that the target has sent.
func (a *Admission) ReserveReceived(n int) (granted int) { return a.received.reserve(n) }

// IsSentBounded reports whether the decision limits the bytes sent to the target.
func (a *Admission) IsSentBounded() bool { return a.sent.isBounded() }

// Moved returns the bytes that were sent to the target and received from it so far.
func (a *Admission) Moved() (sent, received int64) {
	return a.sent.moved.Load(), a.received.moved.Load()
}

// OverSent returns the cause and the refusal for a request whose next bytes would
// exceed a limit on sent bytes.
func (a *Admission) OverSent() (Cause, *Refusal) {
	if a.sent.isStepNearer() {
		return CauseStepBytesSentLimit, a.Refuse(refuse(policy.StepLimit,
			fmt.Sprintf("the step goes over the %d bytes that its rule lets it send (step_bytes_sent)", a.sent.stepLimit)))
	}
	return CauseBytesSentLimit, a.Refuse(refuse(policy.ByteLimit,
		fmt.Sprintf("the request goes over the %d bytes that its rule lets it send, head included (bytes_sent)", a.sent.limit)))
}

// OverReceived is [Admission.OverSent] for a response.
func (a *Admission) OverReceived() (Cause, *Refusal) {
	if a.received.isStepNearer() {
		return CauseStepBytesReceivedLimit, a.Refuse(refuse(policy.StepLimit,
			fmt.Sprintf("the step goes over the %d bytes that its rule lets it receive (step_bytes_received)", a.received.stepLimit)))
	}
	r := refuse(policy.ByteLimit, fmt.Sprintf("the answer goes over the %d bytes that the rule lets it have, head included (bytes_received)", a.received.limit))
	r.Status = http.StatusBadGateway // the answer is too long, not the request
	return CauseBytesReceivedLimit, a.Refuse(r)
}
