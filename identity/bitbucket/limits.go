package bitbucket

import (
	"runtime"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/fair"
)

// maxWaiting is how many callers may wait for the keys of one issuer, or for the names
// of one workspace.
const maxWaiting = 512

// nameWaits is how many requests may wait for names that were never known. All requests of a
// step wait for the same names, and a build tool opens many connections at once: a step may
// wait with as many requests as its repository.
var nameWaits = fair.Config{Step: fair.Limit{Slots: maxWaiting / 4}, Repository: fair.Limit{Slots: maxWaiting / 4}, Total: fair.Limit{Slots: maxWaiting}}

// subject is who a principal's use of what all share counts for.
func subject(p *identity.Principal) fair.Subject {
	return fair.Subject{Issuer: p.Issuer, Repository: p.Repository.UUID, Step: p.Step.UUID}
}

// admittedLookups is how many admitted tokens may be looked up in the store at
// once. While its database does not answer, each takes as long as it may.
var admittedLookups = fair.Config{
	Step:         fair.Limit{Slots: 2, Waiting: 8},
	Repository:   fair.Limit{Slots: 4, Waiting: 32},
	Total:        fair.Limit{Slots: 16, Waiting: 256},
	Wait:         time.Second,
	WaitForSlots: true,
}

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
