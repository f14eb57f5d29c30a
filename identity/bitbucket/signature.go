package bitbucket

import (
	"context"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/fair"
)

// turn waits for the turn of the client's address.
func (a *Authenticator) turn(ctx context.Context) (fair.Slot, error) {
	return a.signatures.Acquire(ctx, fair.Subject{Repository: identity.ClientOf(ctx).String()}, 0)
}

// checkSignature is [provenWith] in the turn of the client's address.
func (a *Authenticator) checkSignature(ctx context.Context, k *key, issuer string, t *token, skip checkSet) *identity.Error {
	slot, err := a.turn(ctx)
	if err != nil {
		return refuse(checkSignature, identity.Overloaded, "too many tokens wait to be verified; try again in a moment", err)
	}
	defer slot.Release()
	return provenWith(ctx, k, issuer, t, skip)
}
