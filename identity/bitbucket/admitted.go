package bitbucket

import (
	"context"
	"sync"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/fair"
)

// AdmittedStore keeps the digests of tokens that were admitted while they were
// valid, for every instance and over a restart. It must be safe for concurrent
// use.
type AdmittedStore interface {
	// Admit keeps that the token behind the principal was verified and is valid
	// now; the first time that any instance says so counts. It is called for every
	// request, so it must not block and costs a memory read where that is known
	// already. What it cannot keep ends when the token does.
	Admit(p *identity.Principal)
	// Admitted returns the principal of a token that was admitted while it was
	// valid and may still be accepted, with its end in Expires; found is false
	// where there is none. It must bound its own time. An error means that nothing
	// could be found out.
	Admitted(ctx context.Context, digest [32]byte, stepUUID string) (p *identity.Principal, found bool, err error)
}

// Revocations says who is not to be admitted although the token is good. It is
// asked for every request, so it answers from memory and never blocks, and it
// must be safe for concurrent use. UUIDs are bare and lower-case.
type Revocations interface {
	Revoked(stepUUID, repositoryUUID string) bool
}

// An admitted token is one whose end has come and which goes through every
// check but that of its end: the form, the signature by a key that the issuer
// still publishes, the audience, the workspace and the subject are judged as
// ever. In the place of the end stands the word of the store that this very
// token was admitted before it. The digest suffices to know it by: SHA-256 has no
// known collisions, so no other bytes have it, and it is of the whole token, so
// it belongs to one step. And since the rest is judged again, somebody who can
// write to the store can lengthen the life of a genuine token, to its maximum
// age, and cannot make one.

// admittedLookups is how many admitted tokens may be looked up in the store at
// once. While its database does not answer, each takes as long as it may.
var admittedLookups = fair.Config{
	Step:         fair.Limit{Slots: 2, Waiting: 8},
	Repository:   fair.Limit{Slots: 4, Waiting: 32},
	Total:        fair.Limit{Slots: 16, Waiting: 256},
	Wait:         time.Second,
	WaitForSlots: true,
}

// mayHaveBeenAdmitted reports whether a token that has ended could still be
// accepted. It tells without a key and without the store, so that most of what
// has ended costs nobody anything: no token was admitted after its end.
func (a *Authenticator) mayHaveBeenAdmitted(c *claims, now time.Time) bool {
	return a.admitted != nil && now.Before(c.expires.Add(a.config.Leeway+a.config.AdmittedMaxAge))
}

// admittedUntil returns until when a token that has ended, and is right in
// everything else, is accepted.
func (a *Authenticator) admittedUntil(ctx context.Context, v *verified, now time.Time) (time.Time, *identity.Error) {
	if a.unadmitted.has(v.digest, now) {
		return time.Time{}, expired(v.claims)
	}
	p := v.principal()
	var kept *identity.Principal
	found := false
	lease, err := a.lookups.Acquire(ctx, subject(p), 0)
	if err == nil {
		kept, found, err = a.admitted.Admitted(ctx, v.digest, v.claims.step)
		lease.Release()
	}
	if err != nil {
		return time.Time{}, refuse(checkExpiry, identity.AdmittedUnavailable,
			"the token has ended, and whether it was admitted before that cannot be found out at the moment; try again in a minute", err)
	}
	if !found || !now.Before(kept.Expires) || !sameStep(kept, p) {
		a.unadmitted.add(v.digest, now)
		return time.Time{}, expired(v.claims)
	}
	return kept.Expires, nil
}

// sameStep reports whether what was kept is of the step that the token names.
func sameStep(a, b *identity.Principal) bool {
	return a.Kind == b.Kind && a.Issuer == b.Issuer && a.Workspace.UUID == b.Workspace.UUID && a.Repository.UUID == b.Repository.UUID &&
		a.Pipeline == b.Pipeline && a.Step == b.Step && a.Branch == b.Branch && (a.Deployment == nil) == (b.Deployment == nil) &&
		(a.Deployment == nil || a.Deployment.UUID == b.Deployment.UUID)
}

// checkRevoked refuses who has been revoked, however well the token is known.
func (a *Authenticator) checkRevoked(v *verified) *identity.Error {
	if a.revocations == nil || a.skip.has(checkRevoked) || !a.revocations.Revoked(v.claims.step, v.claims.repository) {
		return nil
	}
	e := refuse(checkRevoked, identity.CredentialRevoked, "an operator has ended this step, or every step of its repository", nil)
	e.Principal = v.present.Load().principal
	return e
}

const (
	// unadmittedFor is how long a token that was not admitted is not asked for
	// again. It becomes one only where an instance has admitted it before its end
	// and not yet written it down.
	unadmittedFor = 5 * time.Second
	maxUnadmitted = 4096
)

// unadmitted remembers, in bounded memory, tokens that have ended and were not
// admitted, so that a step that continues using one costs the store little. The
// zero value is empty. It is safe for concurrent use.
type unadmitted struct {
	mu    sync.Mutex
	until map[digest]time.Time
}

func (u *unadmitted) has(d digest, now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return now.Before(u.until[d])
}

func (u *unadmitted) add(d digest, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.until == nil || len(u.until) >= maxUnadmitted {
		u.until = map[digest]time.Time{}
	}
	u.until[d] = now.Add(unadmittedFor)
}
