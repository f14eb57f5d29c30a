package rego

import (
	"context"
	"slices"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/webhook"
)

// DeliveryExplanation is a decision about a delivery with the outcome of each rule.
type DeliveryExplanation struct {
	Decision webhook.Decision
	Rules    []Explained // by set, then as they stand in the files
}

// ExplainDelivery evaluates the policy for an input as [Set.ReplayDelivery] does, and
// returns what [Set.Explain] returns for a request. Safe for concurrent use.
func (s *Set) ExplainDelivery(ctx context.Context, input []byte) (*DeliveryExplanation, error) {
	x := &DeliveryExplanation{}
	var err error
	if x.Decision, err = s.ReplayDelivery(ctx, input); err != nil {
		return x, err
	}
	in, err := recordedInput(input, s.loader.options.Names)
	if err != nil {
		return x, err
	}
	if s.deliveries.defines() {
		if _, x.Rules, err = s.loader.fork().explain(ctx, s.deliveries, s.loader.organization.part(deliveries), in); err != nil {
			return x, err
		}
	}
	// A delivery that the organization does not allow does not depend on the repository.
	own, err := s.ownDeliveryRules(in)
	if err == nil && own != nil {
		var rules []Explained
		_, rules, err = own.explain(ctx, input)
		x.Rules = append(x.Rules, rules...)
	}
	if err != nil && x.Decision.Verdict == policy.Allow {
		return x, err
	}
	for i := range x.Rules {
		if r := &x.Rules[i]; r.Matched && r.Set == setRoute && x.Decision.Verdict != policy.Allow {
			r.Ignored = "the delivery is denied"
		}
	}
	slices.SortStableFunc(x.Rules, func(a, b Explained) int { return setOrder(a.Set) - setOrder(b.Set) })
	return x, nil
}
