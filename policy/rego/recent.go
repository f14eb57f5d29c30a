package rego

import (
	"hash/maphash"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/webhook"
)

// maxRecent bounds the remembered inputs.
const maxRecent = 512

// recentInputs remembers real inputs, to probe a new policy with. A request replaces an
// earlier one of the same kind, so that a busy step does not displace the others. Requests
// of different kinds may have the same slot; the later one is remembered. Safe for
// concurrent use.
type recentInputs struct {
	slots [maxRecent]atomic.Pointer[recentInput]
}

type recentInput struct {
	repository string
	input      []byte
}

var recentSeed = maphash.MakeSeed()

// note remembers the input of a decision. It is read-only from then on.
func (r *recentInputs) note(request *policy.Request, input []byte) {
	type kind struct {
		action                       policy.Action
		repository, deployment, host string
		port                         uint16
	}
	k := kind{request.Action, request.Principal.Repository.UUID, "", request.Target.Host, request.Target.Port}
	if d := request.Principal.Deployment; d != nil {
		k.deployment = d.UUID
	}
	r.slots[maphash.Comparable(recentSeed, k)%maxRecent].Store(&recentInput{k.repository, input})
}

// maxRecentDelivery bounds a remembered input about a delivery in bytes: a push may list
// a thousand refs.
const maxRecentDelivery = 8 << 10

// noteDelivery remembers the input of a decision about a delivery.
func (r *recentInputs) noteDelivery(d *webhook.Delivery, input []byte) {
	if len(input) > maxRecentDelivery {
		return
	}
	type kind struct{ receiver, event, repository string }
	k := kind{d.Receiver, d.Event.Key, ""}
	if repository := d.Event.Repository; repository != nil {
		k.repository = repository.FullName
	}
	r.slots[maphash.Comparable(recentSeed, k)%maxRecent].Store(&recentInput{k.repository, input})
}

// list returns the remembered inputs, sorted by repository.
func (r *recentInputs) list() []*recentInput {
	var list []*recentInput
	for i := range r.slots {
		if input := r.slots[i].Load(); input != nil {
			list = append(list, input)
		}
	}
	slices.SortStableFunc(list, func(a, b *recentInput) int { return strings.Compare(a.repository, b.repository) })
	return list
}
