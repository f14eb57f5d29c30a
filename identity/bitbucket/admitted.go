package bitbucket

import (
	"context"
	"time"

	"github.com/sallyport/sallyport/identity"
)

// An admitted token is one whose end has come and which goes through every
// check but that of its end: the form, the signature by a key that the issuer
// still publishes, the audience, the workspace and the subject are judged as
// ever. In the place of the end stands the word of the store that this very
// token was admitted before it. The digest suffices to know it by: SHA-256 has no
// known collisions, so no other bytes have it, and it is of the whole token, so
// it belongs to one step. Since the rest is checked again, a login that can write to
// the store can lengthen the life of a genuine token, to its maximum age, and cannot
// make one.

// mayHaveBeenAdmitted reports whether a token that has ended could still be
// accepted. It needs neither a key nor the store, so that most expired tokens cost
// nothing: no token was admitted after its end.
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
