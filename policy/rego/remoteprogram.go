package rego

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sallyport/sallyport/internal/worker"
	"github.com/sallyport/sallyport/policy/rego/document"
	"github.com/sallyport/sallyport/policy/rego/functions"
)

// remoteProgram is a repository's compiled policy in the workers. Safe for
// concurrent use.
type remoteProgram struct {
	client *client
	unit   *unit
	blame  string
	compileReply
}

// compileInWorker compiles a repository's policy in a worker.
func (c *client) compileInWorker(ctx context.Context, u *unit) (*remoteProgram, error) {
	p := &remoteProgram{client: c, unit: u, blame: blameOf(u)}
	err := c.call(ctx, requestCompile, c.environment.lean, u, unitRequest{}, worker.Call{Limit: limits.compile, QuarantineKey: p.blame}, &p.compileReply)
	if isDeath(err) {
		return nil, c.placeOfDeath(ctx, u, c.environment.lean, warmUpInput(egress).json, warmUpDeadline, "compilation", err)
	}
	if err != nil {
		return nil, faultOf(u, "compilation", err)
	}
	slices.Sort(p.Names)
	return p, nil
}

// defines reports whether the policy has a set of a domain.
func (p *remoteProgram) defines(d *domain) bool {
	if d == deliveries {
		return p.Deliveries
	}
	return !p.Empty
}

// evaluate evaluates the policy. It returns soon after the deadline, whatever the policy
// does.
func (p *remoteProgram) evaluate(ctx context.Context, in *evalInput, deadline time.Duration) (results, error) {
	if !p.defines(in.domain) {
		return nil, nil
	}
	key := p.client.environment.lean
	e := evaluation{environment: key, repository: p.unit.repository, deadline: deadline, input: in.json}
	reply, err := p.client.do(ctx, p.unit, key, &worker.Call{
		Share: p.unit.repository, QuarantineKey: p.blame, Request: e.append(make([]byte, 0, len(in.json)+64)),
		Limit: deadline, MaxReply: maxEvaluationReply, Class: p.client.class(),
	})
	if isDeath(err) {
		return nil, p.client.placeOfDeath(ctx, p.unit, key, in.json, deadline, "evaluation", err)
	}
	if err != nil {
		return nil, faultOf(p.unit, "evaluation", err)
	}
	a, err := readEvaluationReply(reply)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", unitName(p.unit), err)
	}
	for _, text := range a.excepted {
		n, err := document.ParseJSON(text)
		if err != nil || n == nil {
			return nil, fmt.Errorf("%s: %w: an exception", unitName(p.unit), errWire)
		}
		in.exceptions = append(in.exceptions, n.Term())
	}
	if a.readClock {
		in.span = functions.Never
	}
	return a.results, nil
}

// isTransient reports whether the same request may succeed later: the error is not the
// policy's, or the policy ended a worker, which is tried again after a while.
func isTransient(err error) bool {
	_, permanent := errors.AsType[*workerError](err)
	_, listed := errors.AsType[Errors](err)
	return !permanent && !listed
}

// explain evaluates with a tracer: see [Set.Explain].
func (p *remoteProgram) explain(ctx context.Context, input []byte) (results, []Explained, error) {
	if !p.defines(domainOfText(input)) {
		return nil, nil, nil
	}
	var x explainReply
	err := p.client.call(ctx, requestExplain, p.client.environment.lean, p.unit, unitRequest{Input: input}, worker.Call{Limit: explainDeadline}, &x)
	if err != nil {
		return nil, nil, faultOf(p.unit, "explanation", err)
	}
	a, err := readEvaluationReply(x.Results)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", unitName(p.unit), err)
	}
	return a.results, x.Rules, nil
}

// timeoutPlace evaluates with a tracer and returns an error with the location at the
// deadline; nil if the evaluation ends in time.
func (p *remoteProgram) timeoutPlace(ctx context.Context, in *evalInput, deadline time.Duration) error {
	if !p.defines(in.domain) {
		return nil
	}
	var at placeReply
	err := p.client.call(ctx, requestPlace, p.client.environment.lean, p.unit, unitRequest{Input: in.json, Deadline: deadline}, worker.Call{Limit: deadline}, &at)
	if err != nil {
		return faultOf(p.unit, "evaluation", err)
	}
	if at.File == "" {
		return nil
	}
	return timeoutError(at.File, at.Line, at.Column, deadline)
}
