package rego

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/rego/functions"
)

// Decide evaluates the policy for a request, within the deadline. On an error the decision
// still holds the revision, the reason policy_error, and the input if it was made. Safe
// for concurrent use.
func (s *Set) Decide(ctx context.Context, request *policy.Request) (policy.Decision, error) {
	start := time.Now()
	part, err := s.partOf(request)
	if err != nil {
		d := denied(nil)
		d.Revision, d.Duration = s.Revision(), time.Since(start)
		return d, err
	}
	return s.decided(ctx, newEvalInput(request, part, nil), start)
}

// decided evaluates the policy for an input that was begun at a time.
func (s *Set) decided(ctx context.Context, in *evalInput, start time.Time) (policy.Decision, error) {
	d, err := s.evaluate(ctx, in)
	d.Revision, d.Duration = s.Revision(), time.Since(start)
	return d, err
}

// partOf makes the principal's part of the input of a request.
func (s *Set) partOf(request *policy.Request) (*principalPart, error) {
	if request == nil || request.Principal == nil {
		return nil, errors.New("policy: the request has no principal")
	}
	if request.Time.IsZero() {
		return nil, errors.New("policy: the request has no time")
	}
	lazy := s.principals.get(request.Principal, func() *lazyPart { return new(lazyPart) })
	lazy.once.Do(func() { lazy.part, lazy.err = newPrincipalPart(request.Principal, s.loader.options.Names) })
	if lazy.err != nil {
		return nil, fmt.Errorf("policy: %w", lazy.err)
	}
	return lazy.part, nil
}

// Replay evaluates the policy for a recorded input, the Input of an earlier decision, at
// that decision's time. It returns what [Set.Decide] returns.
func (s *Set) Replay(ctx context.Context, input []byte) (policy.Decision, error) {
	start := time.Now()
	in, err := recordedInput(input, s.loader.options.Names)
	if err != nil {
		d := denied(nil)
		d.Revision = s.Revision()
		return d, fmt.Errorf("policy: %w", err)
	}
	if err := in.checkNotDelivery(); err != nil {
		d := denied(in)
		d.Revision = s.Revision()
		return d, err
	}
	d, err := s.evaluate(ctx, in)
	d.Revision = s.Revision()
	d.Duration = time.Since(start)
	return d, err
}

// denied is the decision that accompanies an error.
func denied(in *evalInput) policy.Decision {
	d := policy.Decision{Verdict: policy.Deny, Reason: policy.PolicyError}
	if in != nil {
		d.Input = in.json
	}
	return d
}

// evaluate evaluates the organization's program, and then the repository's unless the
// organization denies, and combines the two.
//
// A deny of the organization is final before a repository's rule is evaluated:
// neither an error nor the duration of a repository's rules can change it, and the
// decision names the organization's rules alone.
func (s *Set) evaluate(ctx context.Context, in *evalInput) (policy.Decision, error) {
	in.exceptions, in.span = nil, functions.Span{}
	organization, err := s.evaluateProgram(ctx, s.organization, in, s.loader.options.Deadline)
	if err != nil {
		return denied(in), err
	}
	d := combine(organization, nil, in)
	d.Exceptions = s.applied(in.exceptions)
	if final := deniedByRule(d) && s.loader.runs(organizationFirst); !final && len(s.units) > 0 {
		d, err = s.evaluateBoth(ctx, organization, in)
	}
	d.Input = in.json
	return d, err
}

// evaluateBoth evaluates the repository's program as well, and combines the two.
func (s *Set) evaluateBoth(ctx context.Context, organization results, in *evalInput) (d policy.Decision, err error) {
	exceptions := s.applied(in.exceptions)
	in.exceptions = nil
	owner := s.ownerOf(in.repository)
	var repository results
	own, err := s.ownProgram(in)
	if err == nil {
		repository, err = s.evaluateInWorker(ctx, own, in)
	}
	if err != nil {
		d = denied(in)
	} else {
		d = combine(organization, repository, in)
		d.Exceptions = mergeExceptions(exceptions, owner.applied(in.exceptions))
	}
	d.RepositoryRevision = owner.origin
	if owner != s {
		d.Notice = s.notice(in.repository)
	}
	return d, err
}

// ownerOf returns the set whose rules of a repository are in force: this one, or the one
// that keeps those of an earlier revision.
func (s *Set) ownerOf(repository string) *Set {
	if kept := s.kept[repository]; kept != nil {
		return kept
	}
	return s
}

// deniedByRule reports whether a decision is an enforced deny of a rule.
func deniedByRule(d policy.Decision) bool {
	return d.Verdict != policy.Allow && d.Reason == policy.PolicyDenied
}

// evaluateProgram evaluates one program; a nil one has no results.
func (s *Set) evaluateProgram(ctx context.Context, p *program, in *evalInput, deadline time.Duration) (results, error) {
	if p == nil {
		return nil, nil
	}
	if err := in.requireNames(p.name, p.names); err != nil {
		return nil, err
	}
	r, err := p.evaluate(ctx, in, deadline)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	return r, nil
}

// evaluateInWorker evaluates a repository's program in a worker; a nil one has no results. The
// whole deadline is for the evaluation, after the wait for a worker.
func (s *Set) evaluateInWorker(ctx context.Context, p *remoteProgram, in *evalInput) (results, error) {
	if p == nil {
		return nil, nil
	}
	if err := in.requireNames(unitName(p.unit), p.Names); err != nil {
		return nil, err
	}
	in.worker = true
	r, err := p.evaluate(ctx, in, s.loader.options.Deadline)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	return r, nil
}

// organizationProgram returns the organization's program of a domain, nil if it has none.
func (s *Set) organizationProgram(d *domain) *program {
	if d == deliveries {
		return s.deliveries
	}
	return s.organization
}

// ownProgram returns the program of an input's repository, nil if it has none.
func (s *Set) ownProgram(in *evalInput) (*remoteProgram, error) {
	if in.repository == "" {
		return nil, errors.New("policy: the repository has no name, so its own policy cannot be found")
	}
	own, err := s.program(in.repository)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	return own, nil
}

// DecideOrganization evaluates only the organization's program. final reports
// whether it is the whole decision: the organization denies, or no rule of the repository
// could allow the request, or the repository has no rules. A decision that is not final
// must not be used. Errors are those of [Set.Decide]. Safe for concurrent use.
func (s *Set) DecideOrganization(ctx context.Context, request *policy.Request) (d policy.Decision, final bool, err error) {
	start := time.Now()
	part, err := s.partOf(request)
	if err != nil {
		d = denied(nil)
	} else {
		d, final, err = s.evaluateOrganization(ctx, newEvalInput(request, part, nil))
	}
	d.Revision, d.Duration = s.Revision(), time.Since(start)
	return d, final && err == nil, err
}

func (s *Set) evaluateOrganization(ctx context.Context, in *evalInput) (d policy.Decision, final bool, err error) {
	r, err := s.evaluateProgram(ctx, s.organization, in, s.loader.options.Deadline)
	if err != nil {
		return denied(in), false, err
	}
	d = combine(r, nil, in)
	d.Input, d.Exceptions = in.json, s.applied(in.exceptions)
	switch {
	case deniedByRule(d):
		return d, true, nil
	case d.Verdict != policy.Allow && len(r[setDelegate]) == 0:
		return d, true, nil // a repository's allow does not count without a delegate
	case len(s.units) == 0:
		return d, true, nil
	}
	return d, in.repository != "" && s.units[in.repository] == nil, nil
}

// applied are the exceptions that the library found, as the set's documents have them, in
// the order of their paths. An exception that a rule constructs has no path.
func (s *Set) applied(noted []*ast.Term) []policy.AppliedException {
	if len(noted) == 0 {
		return nil
	}
	var list []policy.AppliedException
	for _, t := range noted {
		object, ok := t.Value.(ast.Object)
		if !ok {
			continue
		}
		e, ok := exceptionOf(object, "")
		if !ok {
			continue
		}
		for _, known := range s.exceptions {
			if known.Key() == e.Key() && known.value.Compare(object) == 0 {
				e.Path = known.Path
				break
			}
		}
		list = append(list, policy.AppliedException{Path: e.Path, Owner: e.Owner, Ticket: e.Ticket, Repository: e.Repository, Hosts: e.Hosts, Until: e.Until})
	}
	return mergeExceptions(nil, list)
}
