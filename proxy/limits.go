package proxy

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/policy"
)

// Limits bound what verified steps may take of this instance. A token can be
// read by every process of its step, and a step that runs wild must not keep
// the others from getting out.
type Limits struct {
	Step       Limit // of one step
	Repository Limit // of all steps of one repository
	Total      Limit // of all
}

// Limit is how much. A zero field is no limit.
type Limit struct {
	Tunnels           int // open at once: tunnels, and requests under way
	RequestsPerSecond int // CONNECTs and requests, refused ones too; as many may come at once
}

// limiter counts what is open and what is asked for. It knows verified steps
// only, and forgets those that have nothing open and have been quiet for a
// while: who has no token cannot make it grow.
type limiter struct {
	limits Limits

	mu           sync.Mutex
	swept        time.Time
	steps        map[party]*usage
	repositories map[party]*usage
	total        usage
}

// party is a step or a repository, by its UUID under its issuer.
type party struct{ issuer, uuid string }

// usage is what one party has taken.
type usage struct {
	open   int
	tokens float64 // requests that it may make at once
	at     time.Time
	noted  int // refusals on record in the second that began at since
	since  time.Time
}

const limiterForgets = 10 * time.Second

func newLimiter(l Limits) *limiter {
	return &limiter{limits: l, steps: make(map[party]*usage), repositories: make(map[party]*usage)}
}

// lease is a party's place, until it is given back.
type lease struct {
	limiter          *limiter
	step, repository *usage
}

// release gives the place back. It must be called once.
func (l lease) release() {
	if l.limiter == nil {
		return
	}
	l.limiter.mu.Lock()
	defer l.limiter.mu.Unlock()
	l.step.open--
	l.repository.open--
	l.limiter.total.open--
}

// over is a limit that is reached.
type over struct {
	reason policy.Reason
	detail string
	record bool // there is room for an event in this second
}

// take takes a place for one attempt, or says which limit is reached. A refused
// attempt takes nothing: a step over its own limit costs its repository and the
// others none of theirs. perSecond bounds the refusals of a step on record.
func (l *limiter) take(p *identity.Principal, now time.Time, perSecond int) (lease, *over) {
	if l.limits == (Limits{}) {
		return lease{}, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sweep(now)
	step := find(l.steps, party{p.Issuer, p.Step.UUID})
	repository := find(l.repositories, party{p.Issuer, p.Repository.UUID})
	for _, c := range [...]struct {
		*usage
		limit  Limit
		reason policy.Reason
		whose  string
	}{
		{step, l.limits.Step, policy.StepLimit, "this step"},
		{repository, l.limits.Repository, policy.RepositoryLimit, "this repository's steps together"},
		{&l.total, l.limits.Total, policy.InstanceLimit, "all steps together"},
	} {
		c.refill(c.limit, now)
		detail := ""
		switch {
		case c.limit.Tunnels > 0 && c.open >= c.limit.Tunnels:
			detail = fmt.Sprintf("%s may have %d tunnels and requests open at once", c.whose, c.limit.Tunnels)
		case c.limit.RequestsPerSecond > 0 && c.tokens < 1:
			detail = fmt.Sprintf("%s may make %d requests a second", c.whose, c.limit.RequestsPerSecond)
		default:
			continue
		}
		return lease{}, &over{c.reason, detail, step.note(now, perSecond)}
	}
	for _, u := range [...]*usage{step, repository, &l.total} {
		u.open++
		u.tokens--
	}
	return lease{l, step, repository}, nil
}

func find(all map[party]*usage, p party) *usage {
	u := all[p]
	if u == nil {
		u = &usage{}
		all[p] = u
	}
	return u
}

// refill gives what has come in since the last time; a party that was never seen
// has all that may come at once.
func (u *usage) refill(limit Limit, now time.Time) {
	rate := float64(limit.RequestsPerSecond)
	if u.at.IsZero() {
		u.tokens = rate
	} else if passed := now.Sub(u.at); passed > 0 {
		u.tokens = min(rate, max(u.tokens, 0)+passed.Seconds()*rate)
	}
	u.at = now
}

// note reports whether another refusal of this party may be recorded.
func (u *usage) note(now time.Time, perSecond int) bool {
	if passed := now.Sub(u.since); passed < 0 || passed >= time.Second {
		u.since, u.noted = now, 0
	}
	u.noted++
	return u.noted <= perSecond
}

// sweep forgets who has nothing open and has been quiet: its tokens are full again.
func (l *limiter) sweep(now time.Time) {
	if now.Sub(l.swept) < limiterForgets {
		return
	}
	l.swept = now
	for _, all := range [...]map[party]*usage{l.steps, l.repositories} {
		for p, u := range all {
			if u.open == 0 && now.Sub(u.at) >= limiterForgets {
				delete(all, p)
			}
		}
	}
}

// hold takes a place under the limits for this attempt's principal. What a step
// asks for over its limits is recorded so many times a second, the rest counted:
// the log is not a place for a flood.
func (p *passage) hold(ctx context.Context) *Refusal {
	held, over := p.gate.limits.take(p.principal, p.began, p.gate.refused.perSecond)
	if over == nil {
		p.lease = held
		return nil
	}
	r := refuse(over.reason, over.detail)
	if !over.record {
		return p.count(r)
	}
	return p.deny(ctx, r)
}
