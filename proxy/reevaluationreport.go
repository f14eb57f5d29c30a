package proxy

import (
	"context"
	"strconv"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy"
)

// finish ends a pass whose last evaluation is done.
func (r *Reevaluator) finish(ctx context.Context, p *pass) {
	if ctx.Err() != nil {
		return
	}
	failed := r.report(ctx, p, 0)
	r.config.Completed(time.Since(p.began))
	r.mu.Lock()
	r.status.Errors = failed
	r.status.Completed++
	r.mu.Unlock()
	if failed > 0 {
		r.retry.Reset(r.config.Retry)
	}
}

// report reports a pass: always in the log, and in an event where something was
// closed or could not be evaluated. A later call reports the changes since.
func (r *Reevaluator) report(ctx context.Context, p *pass, pending int) (failed int) {
	p.mu.Lock()
	sum, open, closed := p.sum, p.open, p.sum.closed-p.reported
	p.reported = p.sum.closed
	p.mu.Unlock()
	r.mu.Lock()
	news := closed > 0 || sum.failed > 0 && r.recorded != sum.revision.Digest
	if sum.failed > 0 {
		r.recorded = sum.revision.Digest
	}
	r.mu.Unlock()
	if open == 0 {
		return sum.failed
	}
	log := r.config.Log.With("revision", sum.revision.Digest, "open", open, "evaluated", sum.evaluated, "closed", closed,
		"would_deny", sum.wouldDeny, "errors", sum.failed, "pending", pending, "duration", time.Since(p.began))
	if sum.failed > 0 {
		log.ErrorContext(ctx, "policy could not be evaluated for open tunnels and requests; they stay open", "error", sum.failure)
	} else {
		log.InfoContext(ctx, "policy changed; open tunnels and requests reevaluated")
	}
	if news {
		r.record(ctx, sum, open, closed, pending)
	}
	return sum.failed
}

func (r *Reevaluator) record(ctx context.Context, sum itemOutcome, open, closed, pending int) {
	e := &audit.Event{
		Time: r.config.Now().UTC().Truncate(time.Microsecond), Kind: audit.KindPolicyReevaluated,
		Revision: sum.revision.Digest, Commit: sum.revision.Commit,
		Attributes: []audit.Attribute{
			{Name: "open", Value: strconv.Itoa(open)},
			{Name: "closed", Value: strconv.Itoa(closed)},
			{Name: "would_deny", Value: strconv.Itoa(sum.wouldDeny)},
			{Name: "errors", Value: strconv.Itoa(sum.failed)},
		},
	}
	if pending > 0 {
		e.Attributes = append(e.Attributes, audit.Attribute{Name: "pending", Value: strconv.Itoa(pending)})
	}
	if sum.failure != nil {
		e.Reason, e.Message = string(policy.PolicyError), sum.failure.Error()
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := r.config.Recorder.Record(ctx, e); err != nil {
		r.config.Log.ErrorContext(ctx, "reevaluation of open tunnels and requests not recorded", "error", err)
	}
}
