package bitbucket

import (
	"context"
	"runtime"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/fair"
)

// signatureChecks is how signatures are checked: by at most half of the processors,
// and by client address in turn. A check takes about 0.1 ms of a processor, and anybody
// can send tokens that need one: forged ones, and ended ones.
func signatureChecks() fair.Config {
	return fair.Config{
		Step:         fair.Limit{Waiting: maxWaitingChecks / 4},
		Repository:   fair.Limit{Waiting: maxWaitingChecks / 4},
		Total:        fair.Limit{Slots: max(1, runtime.GOMAXPROCS(0)/2), Waiting: maxWaitingChecks},
		Wait:         5 * time.Second,
		WaitForSlots: true,
	}
}

// maxWaitingChecks is how many checks may wait; a quarter of them from one address.
const maxWaitingChecks = 16_384

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
