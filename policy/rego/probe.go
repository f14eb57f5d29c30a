package rego

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// prepareTime bounds the time of [Engine.Prepare] for all repositories together, which
// delays an activation.
const prepareTime = time.Second

// prepareRepositories compiles and probes the policies of the repositories with recent
// requests.
func (s *Set) prepareRepositories(ctx context.Context, previous *Set, inputs []*evalInput) error {
	byRepository := map[string][]*evalInput{}
	if previous != nil {
		for _, repository := range previous.recent() {
			byRepository[repository] = nil
		}
	}
	for _, in := range inputs {
		byRepository[in.repository] = append(byRepository[in.repository], in)
	}
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(byRepository)), func(name string) bool {
		return s.units[name] == nil || s.rejected[name] != nil || s.pending[name] != nil
	})
	// The changed ones first: the others have decided these inputs before.
	slices.SortStableFunc(names, func(a, b string) int { return order(s.units[a].reused) - order(s.units[b].reused) })
	until := time.Now().Add(prepareTime)
	if s.loader.options.Defer {
		s.compileUntil(ctx, names, until)
		return ctx.Err()
	}
	failures := make([]error, len(names))
	err := s.loader.each(ctx, len(names), func(i int) {
		if time.Now().After(until) {
			return
		}
		failures[i] = s.prepareRepository(ctx, names[i], byRepository[names[i]], until)
	})
	if err != nil {
		return err
	}
	for i, name := range names {
		switch {
		case failures[i] == nil:
		case s.loader.options.OnFailure == RejectRevision:
			return failures[i]
		default:
			errs, _ := errors.AsType[Errors](failures[i])
			s.reject(s.units[name], ProbeFailed{errs}, previous)
		}
	}
	return nil
}

// compileUntil compiles the policies of repositories and returns at a given time at the
// latest; compilations that have begun continue in the background. The decision that needs
// a policy gets its error.
func (s *Set) compileUntil(ctx context.Context, names []string, until time.Time) {
	ctx, cancel := context.WithDeadline(ctx, until)
	done := make(chan struct{})
	go func() {
		defer cancel()
		defer close(done)
		_ = s.loader.each(ctx, len(names), func(i int) { _, _ = s.program(names[i]) })
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

func order(last bool) int {
	if last {
		return 1
	}
	return 0
}

func (s *Set) prepareRepository(ctx context.Context, name string, inputs []*evalInput, until time.Time) error {
	if _, err := s.program(name); err != nil {
		return Errors{asError(fmt.Errorf("compiling the policy of %s: %w", name, err))}
	}
	if s.units[name].reused {
		return nil
	}
	for _, in := range inputs {
		if time.Now().After(until) || ctx.Err() != nil {
			return nil
		}
		if err := s.probe(ctx, in, s.probeRepository); err != nil {
			return err
		}
	}
	return nil
}

func (s *Set) probeOrganization(ctx context.Context, in *evalInput) error {
	_, err := s.evaluateProgram(ctx, s.organizationProgram(in.domain), in, s.loader.options.Deadline)
	return err
}

func (s *Set) probeRepository(ctx context.Context, in *evalInput) error {
	own, err := s.repositoryProgram(in)
	if err != nil {
		return err
	}
	_, err = s.evaluateInWorker(ctx, own, in)
	return err
}

// probe evaluates one program for a recent input. An evaluation that exceeds its deadline is
// repeated once: the machine may have been busy.
func (s *Set) probe(ctx context.Context, in *evalInput, half func(context.Context, *evalInput) error) error {
	err := half(ctx, in)
	if errors.Is(err, errDeadline) {
		err = half(ctx, in)
	}
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, errDeadline) {
		if place := s.timeoutPlace(ctx, in); place != nil {
			err = place
		}
	}
	fault := asError(err)
	recent := fmt.Sprintf("request (%s to %s)", in.repository, in.host)
	if in.domain == deliveries {
		recent = fmt.Sprintf("delivery (of %s to the receiver %s)", cmp.Or(in.repository, "a project"), in.host)
	}
	fault.Message = "it cannot decide a recent " + recent + ": " + fault.Message
	return Errors{fault}
}

// timeoutPlace returns the location at the deadline in the programs that evaluate an
// input; nil if they end in time.
func (s *Set) timeoutPlace(ctx context.Context, in *evalInput) error {
	deadline := s.loader.options.Deadline
	if p := s.organizationProgram(in.domain); p.defines() {
		if err := p.timeoutPlace(ctx, in, deadline, s.loader.libraryModules); err != nil {
			return err
		}
	}
	if own, _ := s.repositoryProgram(in); own != nil {
		return own.timeoutPlace(ctx, in, deadline)
	}
	return nil
}
