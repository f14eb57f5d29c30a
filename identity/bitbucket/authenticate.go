package bitbucket

import (
	"context"
	"errors"

	"github.com/sallyport/sallyport/identity"
)

// Authenticate verifies the credential and returns its step, with its names
// where the workspace has an API. Any failure is an [*identity.Error]; it carries
// the principal where the issuer's signature, the workspace and the subject are
// right, whatever else is wrong. It waits for keys and names that are not at
// hand no longer than Config.FetchTimeout and Config.NameWait, or until ctx ends.
// The credential is not kept.
func (a *Authenticator) Authenticate(ctx context.Context, credential identity.Credential) (*identity.Principal, error) {
	if credential.IsZero() {
		return nil, a.refused(nil, &identity.Error{Problem: identity.CredentialMissing, Detail: "no credential was presented"})
	}
	raw := credential.Reveal()
	if err := tooLarge(raw); err != nil && !a.skip.has(checkSize) {
		return nil, a.refused(nil, err)
	}
	now := a.now()
	d := credential.Digest()
	v := a.cache.get(&d)
	if v != nil && !v.cachedChecks(now) {
		a.cache.drop(v)
		v = nil
	}
	again := v != nil
	if !again {
		proven, i, err := a.verify(ctx, raw, d, now)
		if err != nil {
			return nil, a.refused(i, err)
		}
		v = proven
		a.cache.put(v)
	}
	if err := a.checkRevoked(v); err != nil {
		return nil, a.refused(v.issuer, err)
	}
	if a.admitted != nil && v.kind == identity.CredentialOIDC {
		a.admitted.Admit(v.present.Load().principal)
	}
	p, err := v.named(ctx, now)
	if err != nil {
		return nil, a.refused(v.issuer, err)
	}
	if a.hooks.Verified != nil {
		a.hooks.Verified(v.issuer.workspace.Slug, again)
	}
	return p, nil
}

// refused calls the hook, and returns the error as an error.
func (a *Authenticator) refused(i *issuer, e *identity.Error) error {
	if a.hooks.Refused != nil {
		slug, word := "", ""
		if i != nil {
			slug = i.workspace.Slug
		}
		if r, ok := errors.AsType[*refusal](e.Err); ok {
			word = r.check.String()
		}
		a.hooks.Refused(slug, e.Problem, word)
	}
	return e
}
