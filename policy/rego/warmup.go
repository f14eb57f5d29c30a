package rego

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/webhook"
)

// warmUp evaluates the program once and ignores the result. It returns an error with the
// location only if the evaluation does not end in time: the input is not a real one, and
// other errors may not occur for a real input.
func (p *program) warmUp(library map[string]*ast.Module) error {
	if len(p.sets) == 0 {
		return nil
	}
	in := new(evalInput)
	*in = *warmUpInput(p.domain) // a copy: evaluate writes to its input, and programs are warmed up concurrently
	_, err := p.evaluate(context.Background(), in, warmUpDeadline)
	if !errors.Is(err, errDeadline) {
		return nil
	}
	if place := p.timeoutPlace(context.Background(), in, warmUpDeadline, library); place != nil {
		return place
	}
	return err
}

// warmUpInput is an input of a domain that no rule names. It must not be changed.
func warmUpInput(d *domain) *evalInput {
	if d == deliveries {
		return warmUpDelivery()
	}
	return warmUpRequest()
}

var warmUpRequest = sync.OnceValue(func() *evalInput {
	const uuid = "00000000-0000-0000-0000-000000000000"
	part, err := newPrincipalPart(&identity.Principal{
		Kind:       identity.KindBitbucketStep,
		Workspace:  identity.Workspace{UUID: uuid, Slug: "warm-up"},
		Repository: identity.Repository{UUID: uuid, FullName: "warm-up/warm-up", Project: "WARM"},
		Branch:     "warm-up",
	}, true)
	if err != nil {
		panic("rego: the warm-up input: " + err.Error()) // a fault of the build
	}
	r := &policy.Request{Action: policy.Connect, Time: time.Unix(0, 0)}
	r.Target.Host, r.Target.Port = "warm-up.invalid", 443
	in := newEvalInput(r, part, nil)
	in.value() // programs are warmed up concurrently
	return in
})

var warmUpDelivery = sync.OnceValue(func() *evalInput {
	const uuid = "00000000-0000-0000-0000-000000000000"
	repository := &webhook.Repository{UUID: uuid, FullName: "warm-up/warm-up", Project: "WARM"}
	side := webhook.Side{Repository: repository, Branch: "warm-up", Commit: "0000000"}
	in, err := newDeliveryInput(&webhook.Delivery{Receiver: "warm-up", Received: time.Unix(0, 0), Event: &webhook.Event{
		Kind: webhook.Cloud, Key: "warm-up", Repository: repository, Actor: webhook.Actor{UUID: uuid, Kind: "warm-up"},
		Refs:        []webhook.Ref{{Type: webhook.Branch, Name: "warm-up", Change: webhook.Updated, Old: "0000000", New: "0000000"}},
		PullRequest: &webhook.PullRequest{ID: 1, State: "warm-up", Source: side, Destination: side, MergeCommit: "0000000"},
	}})
	if err != nil {
		panic("rego: the warm-up input: " + err.Error()) // a fault of the build
	}
	return in
})

// warmUpDeadline bounds the first evaluation of a program. It builds indexes that OPA
// builds lazily, and takes far longer than later ones.
const warmUpDeadline = time.Second
