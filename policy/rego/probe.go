package rego

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Prepare gets a set ready to take the current one's place: it compiles the
// policies of the repositories that were asked about lately, and asks the set
// what was really asked of this engine lately. A set that cannot answer one of
// those within its deadline must not decide. The error is then of type [Errors],
// with the place in the policy where that is known. What the answers are is not
// looked at: a new policy is there to answer differently.
func (e *Engine) Prepare(ctx context.Context, set *Set) error {
	if previous := e.current.Load(); previous != nil {
		for _, repository := range previous.recent() {
			if err := ctx.Err(); err != nil {
				return err
			}
			if _, err := set.program(repository); err != nil {
				return Errors{asError(fmt.Errorf("compiling the policy of %s: %w", repository, err))}
			}
		}
	}
	for _, recent := range e.recent.list() {
		if err := set.probe(ctx, recent.input); err != nil {
			return err
		}
	}
	return nil
}

// Recent is how many inputs [Engine.Prepare] would try a set with.
func (e *Engine) Recent() int { return len(e.recent.list()) }

// probe asks a set for an input that was recorded. An evaluation that took too
// long gets a second chance: the machine may have been busy with something else.
func (s *Set) probe(ctx context.Context, input []byte) error {
	q, err := recordedQuestion(input, s.loader.options.Names)
	if err != nil {
		return nil // not an input of a server with these options, and no fault of the policy
	}
	_, err = s.answer(ctx, q)
	if errors.Is(err, errTooLong) {
		_, err = s.answer(ctx, q)
	}
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, errTooLong) {
		if place := s.whereItHangs(ctx, q); place != nil {
			err = place
		}
	}
	fault := asError(err)
	fault.Message = fmt.Sprintf("it cannot decide what was asked lately (%s to %s): %s", q.repository, q.host, fault.Message)
	return Errors{fault}
}

// whereItHangs asks each program that a question is put to where it is when its
// time is over.
func (s *Set) whereItHangs(ctx context.Context, q *question) error {
	deadline := s.loader.options.Deadline
	if p := s.organisation; p != nil && len(p.sets) > 0 {
		if err := p.whereItHangs(ctx, q, deadline, s.loader.libraryModules); err != nil {
			return err
		}
	}
	if own, _ := s.program(q.repository); own != nil {
		return own.whereItHangs(ctx, q, deadline)
	}
	return nil
}

// asError takes the place out of an error that has one.
func asError(err error) Error {
	if e, ok := errors.AsType[Error](err); ok {
		return e
	}
	return Error{Message: err.Error()}
}

// warmUpDeadline bounds the first evaluation of a program, which also builds
// what OPA builds lazily and takes far longer than those that follow.
const warmUpDeadline = time.Second
