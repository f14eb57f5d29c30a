package proxy

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/sallyport/sallyport/internal/fair"
	"github.com/sallyport/sallyport/policy"
)

// Limits bound the use of this instance by verified steps. Every process of a step can
// read its token, and a step out of control must not block the others.
type Limits struct {
	Step       Limit // of one step
	Repository Limit // of all steps of one repository
	Total      Limit // of all
	// QueueTimeout bounds how long a request waits for its rate, and how long for a
	// dial, before it is refused. 0: it is refused at once.
	QueueTimeout time.Duration
}

// Limit bounds one level. A zero field is not a limit, except QueuedRequests: then no
// request waits.
type Limit struct {
	Tunnels           int   // open at once: tunnels, and requests under way
	RequestsPerSecond int   // CONNECTs and requests, refused ones too
	QueuedRequests    int   // that wait for their rate, and again those that wait for a dial
	HeaderBytes       int64 // of the request heads of what is under way
	Dials             int   // connections to targets that are being opened at once
}

// requests is how requests share the instance. A request over a rate waits. No request
// waits for a slot, since tunnels hold their slots for hours.
func (l Limits) requests() fair.Config {
	of := func(limit Limit) fair.Limit {
		return fair.Limit{Slots: limit.Tunnels, Bytes: limit.HeaderBytes, Rate: limit.RequestsPerSecond, Burst: l.burst(limit.RequestsPerSecond), Waiting: limit.QueuedRequests}
	}
	c := fair.Config{Step: of(l.Step), Repository: of(l.Repository), Total: of(l.Total), Wait: l.QueueTimeout, Width: l.width()}
	if c.Width > 0 {
		c.SettleWithin, c.Narrow = settleWithin, max(1, runtime.GOMAXPROCS(0)/2)
	}
	return c
}

// unsettledPerProcessor is how many requests may be in the gate at once, for each processor,
// while several repositories make requests: enough that no processor is idle while a request
// waits, and that one commit records several decisions. Other requests wait, and
// repositories take turns.
const unsettledPerProcessor = 8

// settleWithin is how long a request in the gate counts as one that needs a processor. A
// longer one waits for a name, a slow rule, a target or the database.
const settleWithin = 20 * time.Millisecond

// width is how many requests may be in the gate at once while several repositories make
// requests. It is for requests that may wait: none is refused at once because of it.
func (l Limits) width() int {
	if l.QueueTimeout == 0 || l.Step.QueuedRequests == 0 || l.Repository.QueuedRequests == 0 || l.Total.QueuedRequests == 0 {
		return 0
	}
	return unsettledPerProcessor * runtime.GOMAXPROCS(0)
}

// burst is how many requests of a rate are let through at once: those of a tenth of a
// second, and at least ten. The others wait for their turn, so that a repository that
// sends a second's requests at once does not delay another's by the work for all of
// them. Where nothing may wait, a burst is as large as the rate.
func (l Limits) burst(perSecond int) int {
	if l.QueueTimeout == 0 {
		return perSecond
	}
	return min(perSecond, max(perSecond/10, 10))
}

// dials is how the opening of connections is shared. Targets that do not answer
// hold their slots until the dialer's timeout.
func (l Limits) dials() fair.Config {
	of := func(l Limit) fair.Limit { return fair.Limit{Slots: l.Dials, Waiting: l.QueuedRequests} }
	return fair.Config{Step: of(l.Step), Repository: of(l.Repository), Total: of(l.Total), Wait: l.QueueTimeout, WaitForSlots: true}
}

// Validate reports a share that is above the one that contains it.
func (l Limits) Validate() error { return errors.Join(l.requests().Validate(), l.dials().Validate()) }

// overLimit is the refusal for a limit of requests.
func overLimit(over *fair.OverError) *Refusal {
	detail := ""
	switch over.Kind {
	case fair.Width:
		detail = "too many requests of this repository wait for their turn, while other repositories make requests too"
	case fair.Rate:
		detail = fmt.Sprintf("%s may make %d requests a second", whose(over.Level), over.Limit)
	case fair.Bytes:
		detail = fmt.Sprintf("the heads of the requests that %s may have under way have %d bytes", whose(over.Level), over.Limit)
	default:
		detail = fmt.Sprintf("%s may have %d tunnels and requests open at once", whose(over.Level), over.Limit)
	}
	return refuse(limitReason(over.Level, policy.InstanceLimit), detail)
}

// overShare is the refusal for a limit of something that all steps share, such as
// the dials under way.
func overShare(over *fair.OverError, what string) *Refusal {
	return refuse(limitReason(over.Level, policy.Overloaded), fmt.Sprintf("%s may have %d %s at once", whose(over.Level), over.Limit, what))
}

func limitReason(level fair.Level, all policy.Reason) policy.Reason {
	switch level {
	case fair.Step:
		return policy.StepLimit
	case fair.Repository:
		return policy.RepositoryLimit
	}
	return all
}

func whose(level fair.Level) string {
	switch level {
	case fair.Step:
		return "this step"
	case fair.Repository:
		return "this repository's steps together"
	}
	return "all steps together"
}
