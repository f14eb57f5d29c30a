package bitbucket

import (
	"context"
	"crypto/sha256"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/identity"
)

type digest = [sha256.Size]byte

// verified is a token that was verified once. It is accepted again until it expires,
// while the issuer publishes its key.
type verified struct {
	issuer  *issuer
	key     *key
	kind    string    // how it was accepted: one of identity's Credential… words
	ends    time.Time // until when it need not be proven again
	expires time.Time // exp, or until when an admitted one is accepted
	claims  *claims
	digest  digest
	present atomic.Pointer[presentation]
}

// cachedChecks reports whether the token need not be proven again.
func (v *verified) cachedChecks(now time.Time) bool {
	return now.Before(v.ends) && v.issuer.keys.trusts(v.key, now)
}

// principal is the step with its UUIDs and without names.
func (v *verified) principal() *identity.Principal {
	p := &identity.Principal{
		Kind: identity.KindBitbucketStep, Issuer: v.issuer.url,
		Workspace:  identity.Workspace{UUID: v.claims.workspace},
		Repository: identity.Repository{UUID: v.claims.repository},
		Pipeline:   identity.Run{UUID: v.claims.pipeline},
		Step:       identity.Run{UUID: v.claims.step},
		Branch:     v.claims.branch,

		CredentialKind: v.kind, CredentialDigest: v.digest, Expires: v.expires,
	}
	if v.claims.deployment != "" {
		p.Deployment = &identity.Deployment{UUID: v.claims.deployment}
	}
	return p
}

// named returns the principal with the names of this moment. The one that was
// handed out last is handed out again while no name has changed.
func (v *verified) named(ctx context.Context, now time.Time) (*identity.Principal, *identity.Error) {
	shown := v.present.Load()
	n := v.issuer.names
	if n == nil || now.Before(shown.until) && shown.version == n.version.Load() {
		return shown.principal, nil
	}
	fresh, err := n.present(ctx, v.principal())
	if err != nil {
		e := refuse(checkNamed, identity.NamesUnavailable,
			"Bitbucket's API has not yet returned the name of this repository or deployment, and policy may need it; try again in a minute", err)
		e.Principal = v.principal()
		return nil, e
	}
	v.present.Store(fresh)
	return fresh.principal, nil
}
