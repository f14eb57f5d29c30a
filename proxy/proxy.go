// Package proxy is the enforcement point: the [Gate] that all outbound traffic passes,
// the guarded dialer behind it, and the tunnels.
//
// It implements no protocol and imports no library. Adapters read requests from sockets;
// others verify tokens, evaluate policy, store records and resolve names behind the four
// interfaces below.
package proxy

import (
	"context"
	"net/netip"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/fair"
	"github.com/sallyport/sallyport/policy"
)

// Authenticator verifies a credential and returns its principal.
//
// It returns either a principal that is fully verified and whose names are filled in as
// far as they are known, or an *[identity.Error]; any other error means that the
// credential could not be checked, and the gate denies. It must be safe for concurrent
// use, must accept ctx, must bound its own time, and must not retain, log or forward the
// credential. The principal is read-only.
type Authenticator interface {
	Authenticate(ctx context.Context, credential identity.Credential) (*identity.Principal, error)
}

// Decider decides whether a request of a principal is allowed.
//
// A denial is a decision and not an error. An error means "could not decide": the gate
// denies with policy_error, still uses the revision and the input of the decision, and
// shows the client what a method ClientText() string of the error returns. It must be
// safe for concurrent use, must use one revision from beginning to end of a call, and
// must bound its own time.
type Decider interface {
	Decide(ctx context.Context, request *policy.Request) (policy.Decision, error)
}

// Recorder makes events durable.
//
// Record returns nil only when the event survives the loss of this process and of the
// database's: the caller may act on it. After an error the event may or may not be
// recorded, and nothing may be allowed because of it. It sets the writer's name and
// number, and owns the event: the caller must not use it again. A canceled ctx ends the
// waiting and not the writing. The recorder retries, and resolves an allow whose Record
// returned an error: the log must not show it as an admitted request, so it is either
// written as a refusal or followed by an event that closes it with the cause
// audit_unavailable. It must be safe for concurrent use.
//
// AvailableTo returns an error while the log is known to be unavailable, or to accept no
// more of that step or repository. It costs a memory read; nil promises nothing. An error
// with a method ClientText() string returns by it what the client may read.
type Recorder interface {
	Record(ctx context.Context, event *audit.Event) error
	AvailableTo(of audit.Source) error
}

// Resolver finds the addresses of a canonical name that is not an IP literal.
//
// It must be safe for concurrent use, accept ctx, bound what it returns, and never return
// an empty list without an error. The lookup counts as the subject's. The resolver
// retries. An error that wraps an *[fair.OverError] is answered with that limit, and not
// as a fault of the name. One with a method ClientText() string returns by it what a
// client may read.
type Resolver interface {
	Resolve(ctx context.Context, subject fair.Subject, host string) ([]netip.Addr, error)
}
