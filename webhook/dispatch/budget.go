package dispatch

import (
	"time"

	"github.com/sallyport/sallyport/webhook"
)

// overdueAttempts is the number of attempts that every task has before Overdue may end it.
const overdueAttempts = 3

// overdueCause is the reason of a dead letter that ends at a lease.
const overdueCause = "the time budget (retry_for) has ended, and no attempt since had a result"

// BudgetEnded reports whether the time budget of a task has ended at a time of this host's
// clock. The clock of the database has to agree, as of the lease: the jump of one clock ends no
// delivery.
func BudgetEnded(t webhook.Task, budget time.Duration, now time.Time) bool {
	end := t.Received.Add(budget)
	return !now.Before(end) && (t.Leased.IsZero() || !t.Leased.Before(end))
}

// Overdue returns why a task that was just leased becomes a dead letter without an attempt;
// empty: it does not. Its budget had already ended at the lease before, whose attempt had no
// result. A claimer that never reports a result would otherwise block the deliveries of a
// repository forever.
func Overdue(t webhook.Task, budget time.Duration, now time.Time) string {
	before := t
	before.Leased = t.LeasedBefore
	if t.Attempt <= overdueAttempts || t.LeasedBefore.IsZero() || !BudgetEnded(t, budget, now) || !BudgetEnded(before, budget, now) {
		return ""
	}
	return overdueCause
}

// NextAttempt returns when a failed task may be attempted again, after a pause: the last
// attempt is at the end of the budget.
func NextAttempt(t webhook.Task, budget time.Duration, now time.Time, pause time.Duration) time.Time {
	at, end := now.Add(pause), t.Received.Add(budget)
	if at.After(end) && now.Before(end) {
		return end
	}
	return at
}
