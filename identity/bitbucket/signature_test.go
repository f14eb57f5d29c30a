package bitbucket

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/fair"
)

// TestSignatureChecksAreShared: an address that sends forged tokens delays the check
// of another's token by a check or two and not by all of its own.
func TestSignatureChecksAreShared(t *testing.T) {
	if before := checksBefore(t, true); before > 1 {
		t.Errorf("%d of 200 forged tokens were checked first", before)
	}
}

// TestSignatureSharesAreNeeded: where all have one share it waits for all of them.
func TestSignatureSharesAreNeeded(t *testing.T) {
	if before := checksBefore(t, false); before != 200 {
		t.Errorf("%d of 200 forged tokens were checked first", before)
	}
}

// checksBefore returns how many of 200 forged tokens get their turn before an honest
// one that came behind them.
func checksBefore(t *testing.T, shared bool) (before int) {
	synctest.Test(t, func(t *testing.T) {
		one := signatureChecks()
		one.Total.Slots = 1
		a := &Authenticator{signatures: fair.New(one)}
		from := func(address string) context.Context {
			if !shared {
				return t.Context()
			}
			return identity.WithClient(t.Context(), netip.MustParseAddr(address))
		}
		busy, err := a.turn(from("192.0.2.1"))
		if err != nil {
			t.Fatal(err)
		}
		var order []string // in which the checks had the slot
		var all sync.WaitGroup
		check := func(who, address string) {
			all.Go(func() {
				slot, err := a.turn(from(address))
				if err != nil {
					t.Error(err)
				}
				order = append(order, who)
				slot.Release()
			})
		}
		for range 200 {
			check("forged", "192.0.2.1")
		}
		synctest.Wait()
		check("honest", "192.0.2.2")
		synctest.Wait()
		busy.Release()
		all.Wait()
		before = slices.Index(order, "honest")
	})
	return before
}
