// Package operator executes the operations that an operator requests on the control
// socket, and records each of them in the audit log: revocations of credentials, closed
// tunnels, the emergency stop, reloads of the policy, credentials of webhook agents,
// replays of webhook deliveries, and descriptions of the running process.
package operator

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/admin"
	"github.com/sallyport/sallyport/internal/emergencystop"
	"github.com/sallyport/sallyport/proxy"
)

// The actions of an event of kind admin.
const (
	actionRevoked      = "token_revoked"
	actionUnrevoked    = "token_unrevoked"
	actionClosed       = "tunnels_closed"
	actionStopped      = "emergency_stop"
	actionStopLifted   = "emergency_stop_lifted"
	actionPolicyReload = "policy_reload"
)

const (
	maxIDs        = 1000 // tunnels in one request
	recordTimeout = 10 * time.Second
)

// Revocations are the revocations that all instances share.
type Revocations interface {
	// Revoke returns once the revocation is durable and in force on every connected
	// instance. After an [identity.UnconfirmedError] it is durable and in force here.
	Revoke(ctx context.Context, scope identity.RevocationScope, uuid string, until time.Time, by, reason string) (identity.Revocation, error)
	// Unrevoke lifts the revocations of a subject, and returns their number.
	Unrevoke(ctx context.Context, scope identity.RevocationScope, uuid, by, reason string) (lifted int, err error)
	// Revocations returns the revocations in force.
	Revocations(ctx context.Context) ([]identity.Revocation, error)
}

// Repositories finds repositories by name and by UUID.
type Repositories interface {
	// RepositoryName returns the full name of a repository, "" if it is not known.
	RepositoryName(uuid string) string
	// RepositoryUUID returns the UUID of the repository with a full name.
	RepositoryUUID(fullName string) (uuid string, known bool)
}

// Tunnels are the open tunnels and requests of this instance: a [proxy.Tracker].
type Tunnels interface {
	Tunnels() []proxy.TunnelInfo
	Close(cause proxy.Cause, which func(*proxy.Admission) bool) int
}

// Config configures [Operations]. Every field is required, except for those about webhooks.
type Config struct {
	// Record records an event, and returns when it is durable.
	Record       func(context.Context, *audit.Event) error
	Revocations  Revocations
	Repositories Repositories
	Tunnels      Tunnels
	Stop         *emergencystop.Switch
	// Reload loads the policy source's present revision.
	Reload func(context.Context) (admin.PolicyState, error)
	// Agents is nil if no endpoint is for agents; AgentEndpoints are the names of those that are.
	Agents         AgentCredentials
	AgentEndpoints []string
	// Deliveries is nil if there are no webhooks; Endpoints are the names of all endpoints.
	Deliveries Deliveries
	Endpoints  []string
	Log        *slog.Logger
}

// Operations returns the operations of the control socket. They are safe for concurrent
// use.
func Operations(c Config) admin.Operations {
	ops := admin.Operations{Credentials: credentials{c}, Tunnels: tunnels{c}, Policy: policies{c}, Debug: debugging{c.record, new(sync.Mutex)}}
	if c.Agents != nil {
		ops.Agents = agentCredentials{c}
	}
	if c.Deliveries != nil {
		ops.Deliveries = deliveries{store: c.Deliveries, endpoints: c.Endpoints, record: c.record, log: c.Log}
	}
	return ops
}

// record records an operation with further details. The event is durable when it returns
// nil.
func (c *Config) record(ctx context.Context, by admin.Operator, action, reason string, details ...func(*audit.Event)) error {
	e := &audit.Event{Time: time.Now(), Kind: audit.KindAdmin, Action: action, Message: reason, Attributes: []audit.Attribute{
		{Name: "operator", Value: by.String()},
		{Name: "operator_uid", Value: strconv.FormatUint(uint64(by.UID), 10)},
		{Name: "operator_pid", Value: strconv.Itoa(int(by.PID))},
	}}
	for _, add := range details {
		add(e)
	}
	ctx, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	if err := c.Record(ctx, e); err != nil {
		return fmt.Errorf("it cannot be recorded: %w", err)
	}
	c.Log.Warn("operator action", "operation", action, "operator", by.String(), "reason", reason)
	return nil
}
