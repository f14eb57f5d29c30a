package rego

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/webhook"
)

// HasWebhookRules reports whether the organization has rules about webhook deliveries:
// package sallyport.webhook. Without them [Set.DecideDelivery] returns
// [webhook.ErrNoRules], and a delivery takes its receiver's configured actions.
func (s *Set) HasWebhookRules() bool {
	return s.loader.organization != nil && s.loader.organization.decides(deliveries)
}

// DecideDelivery evaluates the rules about deliveries, each program within the deadline.
// Its routes are those of the policy's rules. On an error the decision denies with the
// reason policy_error, and still has the revision, and the input if it could be made. It is
// safe for concurrent use.
func (s *Set) DecideDelivery(ctx context.Context, d *webhook.Delivery) (webhook.Decision, error) {
	start := time.Now()
	in, err := newDeliveryInput(d)
	if err != nil {
		return s.deliveryError(nil, start), fmt.Errorf("policy: %w", err)
	}
	return s.decideDelivery(ctx, in, start)
}

// ReplayDelivery evaluates the policy for a recorded input about a delivery, at its own
// time. It returns what [Set.DecideDelivery] returns.
func (s *Set) ReplayDelivery(ctx context.Context, input []byte) (webhook.Decision, error) {
	start := time.Now()
	in, err := recordedInput(input, s.loader.options.Names)
	if err == nil && in.domain != deliveries {
		err = errNoDelivery
	}
	if err != nil {
		return s.deliveryError(nil, start), fmt.Errorf("policy: %w", err)
	}
	return s.decideDelivery(ctx, in, start)
}

// deliveryError is the decision that accompanies an error.
func (s *Set) deliveryError(in *evalInput, start time.Time) webhook.Decision {
	d := webhook.Decision{Verdict: policy.Deny, Reason: policy.PolicyError, Revision: s.Revision(), Duration: time.Since(start)}
	if in != nil {
		d.Input = in.json
	}
	return d
}

func (s *Set) decideDelivery(ctx context.Context, in *evalInput, start time.Time) (webhook.Decision, error) {
	d, _, _, err := s.evaluateDelivery(ctx, in)
	if err != nil {
		repository := d.RepositoryRevision
		d = s.deliveryError(in, start)
		d.RepositoryRevision = repository
		return d, err
	}
	d.Revision, d.Input, d.Duration = s.Revision(), in.json, time.Since(start)
	return d, nil
}

// evaluateDelivery evaluates the organization's program, and then the repository's if the
// delivery passes, and combines the two. A repository can only deny, so its rules cannot
// change the decision about a delivery that does not pass.
func (s *Set) evaluateDelivery(ctx context.Context, in *evalInput) (d webhook.Decision, organization, repository results, err error) {
	if !s.HasWebhookRules() {
		return d, nil, nil, webhook.ErrNoRules
	}
	if organization, err = s.evaluateProgram(ctx, s.deliveries, in, s.loader.options.Deadline); err != nil {
		return d, nil, nil, err
	}
	if err := s.checkEndpoints(organization[setRoute]); err != nil {
		return d, organization, nil, err
	}
	d = combineDelivery(organization, nil)
	if d.Verdict != policy.Allow {
		return d, organization, nil, nil
	}
	own, err := s.ownDeliveryRules(in)
	if err != nil || own == nil {
		return d, organization, nil, err
	}
	repository, err = s.evaluateInWorker(ctx, own, in)
	if err == nil {
		d = combineDelivery(organization, repository)
	}
	d.RepositoryRevision = s.ownerOf(own.unit.repository).origin
	return d, organization, repository, err
}

// ownDeliveryRules returns the program with the repository's rules about deliveries; nil
// if it has none.
func (s *Set) ownDeliveryRules(in *evalInput) (*remoteProgram, error) {
	name, err := s.deliveryRepository(in)
	if err != nil || name == "" {
		return nil, err
	}
	u := s.ownerOf(name).units[name]
	// A folder with misplaced files may have rules about deliveries: program returns its error.
	if u == nil || !u.decides(deliveries) && len(u.misplaced) == 0 {
		return nil, nil
	}
	own, err := s.program(name)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	if own == nil || !own.Deliveries {
		return nil, nil
	}
	return own, nil
}

// repositoryProgram returns the program of the repository of an input of any domain, nil
// if the repository has none.
func (s *Set) repositoryProgram(in *evalInput) (*remoteProgram, error) {
	if in.domain == deliveries {
		return s.ownDeliveryRules(in)
	}
	return s.ownProgram(in)
}

// deliveryRepository returns the name under which the repository of a delivery has rules
// of its own; empty if it has none, or if the delivery is not about a repository.
func (s *Set) deliveryRepository(in *evalInput) (string, error) {
	if s.loader.options.Names {
		return in.repository, nil
	}
	if in.repositoryUUID == "" {
		return "", nil
	}
	// A delivery does not name the workspace's UUID. A repository's is unique.
	found := ""
	for name, u := range s.units {
		if !strings.HasSuffix(name, "/"+in.repositoryUUID) || !u.decides(deliveries) && len(u.misplaced) == 0 {
			continue
		}
		if found != "" {
			return "", fmt.Errorf("policy: the folders %s and %s have rules of one repository", min(found, name), max(found, name))
		}
		found = name
	}
	return found, nil
}

// RepositoryOfDelivery returns the name under which the repository of a recorded input
// about a delivery has rules of its own; empty if it has none.
func (s *Set) RepositoryOfDelivery(input []byte) (string, error) {
	in, err := recordedInput(input, s.loader.options.Names)
	if err == nil && in.domain != deliveries {
		err = errNoDelivery
	}
	if err != nil {
		return "", fmt.Errorf("policy: %w", err)
	}
	return s.deliveryRepository(in)
}

var errNoDelivery = errors.New("the recorded input is not about a delivery")

// checkEndpoints returns an error if a route names an endpoint or a resource that is not
// configured: the delivery would not reach it.
func (s *Set) checkEndpoints(routes []entry) error {
	known := s.loader.options.Webhooks
	for _, e := range routes {
		if known == nil || e.route.Endpoint == "" {
			continue
		}
		if e.route.Action == webhook.RefreshResource {
			if !slices.Contains(known.Resources, e.route.Endpoint) {
				return fmt.Errorf("policy: the rule %s refreshes the resource %q, which is not configured", e.rule, e.route.Endpoint)
			}
		} else if !slices.Contains(known.Endpoints, e.route.Endpoint) {
			return fmt.Errorf("policy: the rule %s routes to the endpoint %q, which is not configured", e.rule, e.route.Endpoint)
		}
	}
	return nil
}

// combineDelivery returns the decision that the results of the organization's and the
// repository's rules make. Only the organization's rules allow, report and route. The order
// of Rules is that of a decision about a request, followed by the rules that route.
func combineDelivery(organization, repository results) webhook.Decision {
	denies := slices.Concat(organization[setDeny], repository[setDeny])
	allows, reports := organization[setAllow], organization[setReport]
	var d webhook.Decision
	switch {
	case len(denies) > 0:
		d.Reason, d.Message, d.Rules = policy.PolicyDenied, message(denies), ids(denies, allows)
	case len(allows) == 0:
		d.Reason = policy.NoRuleMatched
	default:
		d.Verdict, d.Reason = policy.Allow, policy.PolicyAllowed
		d.Message, d.Rules = message(allows), ids(allows)
	}
	if len(reports) > 0 && !slices.ContainsFunc(denies, func(e entry) bool { return e.always }) {
		d.Mode = policy.Report
		if d.Verdict == policy.Deny {
			d.Verdict, d.WouldDeny = policy.Allow, true
			if d.Message == "" {
				d.Message = message(reports)
			}
		}
		d.Rules = merged(d.Rules, ids(reports))
	}
	if len(d.Rules) > 0 {
		d.Rule = d.Rules[0]
	}
	if d.Verdict == policy.Allow {
		d.Routes = routesOf(organization[setRoute])
		d.Rules = merged(d.Rules, ids(organization[setRoute]))
	}
	return d
}

// routesOf returns the routes of entries in the order of their rules. Each pair of action and
// endpoint occurs once, with its first rule.
func routesOf(entries []entry) []webhook.Route {
	var routes []webhook.Route
	for _, e := range slices.SortedFunc(slices.Values(entries), func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.rule, b.rule), cmp.Compare(a.route.Action, b.route.Action), cmp.Compare(a.route.Endpoint, b.route.Endpoint))
	}) {
		same := func(r webhook.Route) bool { return r.Action == e.route.Action && r.Endpoint == e.route.Endpoint }
		if !slices.ContainsFunc(routes, same) {
			routes = append(routes, webhook.Route{Action: e.route.Action, Endpoint: e.route.Endpoint, Rule: e.rule})
		}
	}
	return routes
}
