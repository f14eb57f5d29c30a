package rego

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/webhook"
)

// Prepare makes a set ready to become the active one: it evaluates the recent inputs of
// this engine, and compiles the policies of their repositories. A set that cannot decide
// one of them within its deadline must not become active. For the organization's half,
// Prepare returns an error of type [Errors], with the location in the policy where it is
// known. A repository whose half fails is rejected in the set, or the whole set, by
// [Options.OnFailure]. The decisions do not matter: a new policy may decide differently.
//
// The organization's half is evaluated for every input. The repositories' halves have one
// second together; unchanged ones are not evaluated. If the set was loaded with
// [Options.Defer], they are only compiled: [Engine.Check] evaluates recent inputs. The set
// must not be active yet.
func (e *Engine) Prepare(ctx context.Context, set *Set) error {
	previous := e.Current()
	var inputs []*evalInput
	for _, recent := range e.recent.list() {
		in, err := set.recentInput(recent.input)
		if err != nil {
			continue // of a server with other options, and not the policy's fault
		}
		if err := set.probe(ctx, in, set.probeOrganization); err != nil {
			return err
		}
		inputs = append(inputs, in)
	}
	return set.prepareRepositories(ctx, previous, inputs)
}

// recentInput reads a recent input, with the name under which its repository has rules in
// the set. It is an error for a delivery if the set has no rules about deliveries.
func (s *Set) recentInput(input []byte) (*evalInput, error) {
	in, err := recordedInput(input, s.loader.options.Names)
	if err != nil || in.domain != deliveries {
		return in, err
	}
	if !s.HasWebhookRules() {
		return nil, webhook.ErrNoRules
	}
	in.repository, err = s.deliveryRepository(in)
	return in, err
}

// Recent is the number of recent inputs that [Engine.Prepare] evaluates.
func (e *Engine) Recent() int { return len(e.recent.list()) }

// Check checks and tests the policy of a repository that is pending or rejected in a set,
// and evaluates recent inputs with it. It changes nothing; [Set.Settle] does. limit bounds
// an attempt; 0 is no limit. The error is [ErrAttempt] if an attempt needs more time, or
// if the policy ended its worker. Other errors are not the policy's. Safe for concurrent
// use.
func (e *Engine) Check(ctx context.Context, set *Set, repository string, limit time.Duration) (*Checked, error) {
	before := set.units[repository]
	if before == nil {
		return nil, fmt.Errorf("policy: revision %s has no policy of repository %s", set.Revision().Digest, repository)
	}
	u := newUnit(repository)
	u.sources, u.misplaced = before.sources, before.misplaced
	c := &Checked{Repository: repository, set: set, unit: u}
	one := set.loader.fork()
	if one.attempt = limit; limit == 0 {
		one.attempt = fullCheck
	}
	failure, err := one.checkUnit(ctx, u)
	switch {
	case err != nil:
		return nil, err
	case failure == nil:
		failure, err = e.probeUnit(ctx, c)
	}
	if failure != nil {
		u.checkResult = checkResult{failure: failure}
	}
	c.Failure = failure
	return c, err
}

// probeUnit evaluates recent inputs of a repository with its new policy, for
// [prepareTime] at most.
func (e *Engine) probeUnit(ctx context.Context, c *Checked) (failure, err error) {
	s := c.set
	var inputs []*evalInput
	for _, recent := range e.recent.list() {
		in, err := s.recentInput(recent.input)
		if err == nil && in.repository == c.Repository {
			inputs = append(inputs, in)
		}
	}
	if len(inputs) == 0 {
		return nil, nil
	}
	one := s.loader.fork()
	one.organization, one.repositories, one.snapshot = newUnit(""), []*unit{c.unit}, nil
	mini := &Set{
		snapshot: s.snapshot, loader: one, units: map[string]*unit{c.Repository: c.unit}, exceptions: s.exceptions,
		programs: newLRU[string, *lazyProgram](1), principals: newLRU[*identity.Principal, *lazyPart](1), faults: new(faults),
	}
	if err := mini.prepareRepository(ctx, c.Repository, inputs, time.Now().Add(prepareTime)); err != nil {
		errs, ok := errors.AsType[Errors](err)
		if !ok {
			return nil, err
		}
		return ProbeFailed{errs}, nil
	}
	c.program, _ = mini.programs.peek(c.Repository)
	return nil, nil
}
