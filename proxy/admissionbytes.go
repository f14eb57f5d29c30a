package proxy

import (
	"fmt"
	"net/http"

	"github.com/sallyport/sallyport/policy"
)

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
