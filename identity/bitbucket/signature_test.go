package bitbucket

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/bitbuckettest"
	"github.com/sallyport/sallyport/internal/fair"
)

// TestSignatureChecksAreShared: an address that sends forged tokens delays the check
// of another's token by a check or two and not by all of its own.
func TestSignatureChecksAreShared(t *testing.T) {
	if before := checksBefore(t, true); before > 10 {
		t.Errorf("%d of 200 forged tokens were checked first", before)
	}
}

// TestSignatureSharesAreNeeded: where all have one share it waits for all of them.
func TestSignatureSharesAreNeeded(t *testing.T) {
	if before := checksBefore(t, false); before != 200 {
		t.Errorf("%d of 200 forged tokens were checked first", before)
	}
}

// checksBefore returns how many of 200 forged tokens were checked before an honest one
// that came behind them.
func checksBefore(t *testing.T, shared bool) (before int64) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, nil)
		if err := h.auth.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		one := signatureChecks()
		one.Total.Slots = 1
		h.auth.signatures = fair.New(one)
		address := func(s string) context.Context {
			if !shared {
				return t.Context()
			}
			return identity.WithClient(t.Context(), netip.MustParseAddr(s))
		}
		busy, err := h.auth.signatures.Acquire(t.Context(), fair.Subject{Repository: identity.ClientOf(address("192.0.2.1")).String()}, 0)
		if err != nil {
			t.Fatal(err)
		}
		forger := h.server.NewKey(h.acme.Key().ID, "RS256")
		claims := h.step.Claims(bitbuckettest.TokenOptions{Audiences: []string{audience}})
		var checked atomic.Int64
		var all sync.WaitGroup
		for i := range 200 {
			claims["jti"] = fmt.Sprint(i)
			token := forger.Sign(nil, claims)
			all.Go(func() {
				if _, err := h.auth.Authenticate(address("192.0.2.1"), identity.NewCredential(token)); err == nil {
					t.Error("a forged token was accepted")
				}
				checked.Add(1)
			})
		}
		synctest.Wait()
		all.Go(func() {
			if _, err := h.auth.Authenticate(address("192.0.2.2"), identity.NewCredential(h.hour(h.step))); err != nil {
				t.Error(err)
			}
			before = checked.Load()
		})
		synctest.Wait()
		busy.Release()
		all.Wait()
	})
	return before
}
