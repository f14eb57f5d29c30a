package proxy

import (
	"context"
	"errors"
	"net/http"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/destination"
	"github.com/sallyport/sallyport/policy"
)

// authenticate parses the target, authenticates the credential and acquires a slot
// under the limits of the step. The target comes first, so that every later step has
// its canonical form. Its refusal waits for the principal, so that the record of the
// refusal names the step.
func (p *evaluation) authenticate(ctx context.Context) *Refusal {
	parseErr := p.parseTarget()
	err := p.attempt.CredentialError
	if err == nil && p.attempt.Credential.IsZero() {
		err = &identity.Error{Problem: identity.CredentialMissing, Detail: "no Proxy-Authorization was sent"}
	}
	if err == nil {
		p.principal, err = p.verifyCredential(ctx)
	}
	if parseErr != nil {
		if e, ok := errors.AsType[*identity.Error](err); ok {
			p.attribute(e)
		}
		if err == nil {
			if over := p.acquire(ctx); over != nil {
				return over
			}
		}
		return p.refuseUnread(ctx, policy.TargetInvalid, clientDetail(parseErr))
	}
	if err != nil {
		return p.refuseUnidentified(ctx, err)
	}
	return p.acquire(ctx)
}

func (p *evaluation) parseTarget() (err error) {
	switch p.attempt.Action {
	case policy.Connect:
		p.target, err = destination.ParseAuthority(p.attempt.Target)
	case policy.Forward:
		p.target, p.path, err = destination.ParseAbsolute(p.attempt.Target)
		if h := p.attempt.HTTP; err == nil && h != nil && h.Method == http.MethodOptions && !destination.HasPath(p.attempt.Target) {
			p.path = "*" // RFC 9112 section 3.2.4
		}
	default:
		err = errors.New("the request is neither a CONNECT nor in absolute form")
	}
	return err
}

func clientDetail(err error) string {
	if e, ok := errors.AsType[*destination.Error](err); ok {
		return e.Detail
	}
	return err.Error()
}

func (p *evaluation) verifyCredential(ctx context.Context) (*identity.Principal, error) {
	defer p.stage("authenticate")()
	principal, err := p.gate.config.Authenticator.Authenticate(identity.WithClient(ctx, host(p.attempt.Client.Addr())), p.attempt.Credential)
	if err == nil && principal == nil {
		return nil, errors.New("the authenticator returned neither a principal nor an error")
	}
	if err != nil {
		return nil, err
	}
	return principal, nil
}

// attribute records the principal of a credential that was refused.
func (p *evaluation) attribute(e *identity.Error) {
	p.principal, p.credentialRefused = e.Principal, !e.Problem.Unavailable()
}

// refuseStopped refuses every attempt during an emergency stop. The credential is still
// verified, so that the record has the principal.
func (p *evaluation) refuseStopped(ctx context.Context) *Refusal {
	_ = p.parseTarget() // what cannot be read is recorded as it came
	if p.attempt.CredentialError == nil && !p.attempt.Credential.IsZero() {
		principal, err := p.verifyCredential(ctx)
		p.principal = principal
		if e, ok := errors.AsType[*identity.Error](err); ok {
			p.attribute(e)
		}
	}
	return p.refuseUnread(ctx, policy.EmergencyStop, "an operator activated the emergency stop")
}

// refuseUnidentified refuses an attempt whose credential is not accepted. An attempt
// without a credential is counted and not recorded: git and Java first try without one on
// every connection. The others are recorded and logged, up to a rate per address.
func (p *evaluation) refuseUnidentified(ctx context.Context, err error) *Refusal {
	r := refuse(policy.InternalError, "the credential could not be checked")
	e, ok := errors.AsType[*identity.Error](err)
	if ok {
		r = refuse(policy.Reason(e.Problem), e.Detail)
		p.attribute(e)
	}
	if r.Reason == policy.CredentialMissing {
		r.Throttled = p.gate.DelayRefusal(p.attempt.Client.Addr())
		return p.countOnly(r)
	}
	if !p.mayRecord() {
		r.Throttled = true
		return p.countOnly(r)
	}
	switch {
	case !ok:
		p.gate.config.Log.ErrorContext(ctx, "authentication failed", "error", err)
	case e.Err != nil:
		p.gate.config.Log.WarnContext(ctx, "credential not accepted", "reason", string(e.Problem), "error", e.Err)
	}
	return p.record(ctx, r, nil)
}
