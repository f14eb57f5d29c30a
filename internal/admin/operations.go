package admin

import (
	"context"
	"fmt"
	"time"

	"github.com/sallyport/sallyport/webhook"
)

// Operator is who asks something of a running instance: the process at the
// other end of the control socket, as the kernel knows it.
type Operator struct {
	UID  uint32
	PID  int32
	Name string // the user's name; empty where the machine does not know it
}

// String is what the audit log calls the operator.
func (o Operator) String() string {
	if o.Name == "" {
		return fmt.Sprintf("uid %d", o.UID)
	}
	return fmt.Sprintf("%s (uid %d)", o.Name, o.UID)
}

// Operations are what an operator can do to a running instance. Each method
// returns when what it was asked for has happened and is recorded; a
// [*Mistake] means that the operator's request cannot be executed. They
// must be safe for concurrent use.
type Operations struct {
	Credentials Credentials
	Tunnels     Tunnels
	Policy      Policy
	Debug       Debug
	// Agents is nil if the configuration has no endpoint for agents.
	Agents AgentCredentials
	// Deliveries is nil if the configuration has no webhooks.
	Deliveries Deliveries
}

// Credentials ends the admission of steps and repositories, in every instance.
type Credentials interface {
	Revoke(ctx context.Context, by Operator, r RevokeRequest) (Revoked, error)
	Unrevoke(ctx context.Context, by Operator, r UnrevokeRequest) (Unrevoked, error)
	Revocations(ctx context.Context) ([]Revocation, error)
}

// Tunnels are open tunnels in this instance, and its emergency stop.
type Tunnels interface {
	List(ctx context.Context) (TunnelList, error)
	Close(ctx context.Context, by Operator, r CloseRequest) (Closed, error)
	EmergencyStop(ctx context.Context, by Operator, r StopRequest) (Stopped, error)
	LiftEmergencyStop(ctx context.Context, by Operator, r StopRequest) (StopLifted, error)
}

// Policy is the policy of this instance.
type Policy interface {
	Reload(ctx context.Context, by Operator) (PolicyState, error)
}

// Debug describes the running process to an operator.
type Debug interface {
	// Collect collects for the duration of the request. It returns an error while another
	// request collects.
	Collect(ctx context.Context, by Operator, r DebugRequest) (DebugData, error)
}

// Mistake is an operator's: the request cannot be executed.
type Mistake struct{ Message string }

func (m *Mistake) Error() string { return m.Message }

// Subject is whom a revocation is of: exactly one of a step and a repository.
type Subject struct {
	Step       string `json:"step,omitempty"`       // a UUID
	Repository string `json:"repository,omitempty"` // a UUID, or a full name that the instance knows
}

// RevokeRequest asks to end the admission of a subject for so long.
type RevokeRequest struct {
	Subject
	For    time.Duration `json:"for"` // nanoseconds
	Reason string        `json:"reason,omitempty"`
}

// UnrevokeRequest asks to lift a subject's revocations.
type UnrevokeRequest struct {
	Subject
	Reason string `json:"reason,omitempty"`
}

// Revocation is one that is in force.
type Revocation struct {
	ID     int64     `json:"id"`
	Scope  string    `json:"scope"` // step or repository
	UUID   string    `json:"uuid"`
	Name   string    `json:"name,omitempty"` // a repository's full name, where it is known
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until"`
	By     string    `json:"operator"`
	Reason string    `json:"reason,omitempty"`
}

// Revoked is the outcome of a [RevokeRequest].
type Revoked struct {
	Revocation
	Closed int `json:"closed"` // tunnels and requests that were ended here; other instances end theirs
	// Unconfirmed lists the connected instances that have not confirmed it; empty: all have.
	Unconfirmed string `json:"unconfirmed,omitempty"`
}

// Unrevoked is the result of an [UnrevokeRequest].
type Unrevoked struct {
	Scope  string `json:"scope"`
	UUID   string `json:"uuid"`
	Lifted int    `json:"lifted"` // revocations that are no longer in force
}

// Tunnel is one that is open.
type Tunnel struct {
	ID             string    `json:"id"` // of its decision
	Since          time.Time `json:"since"`
	Workspace      string    `json:"workspace,omitempty"`
	Repository     string    `json:"repository,omitempty"`
	RepositoryUUID string    `json:"repository_uuid,omitempty"`
	Deployment     string    `json:"deployment,omitempty"`
	Branch         string    `json:"branch,omitempty"`
	StepUUID       string    `json:"step_uuid,omitempty"`
	Target         string    `json:"target"`
	Sent           int64     `json:"sent"`
	Received       int64     `json:"received"`
}

// TunnelList is open tunnels, the oldest first.
type TunnelList struct {
	Tunnels []Tunnel `json:"tunnels"`
	Stop    *Stop    `json:"stop,omitempty"` // the emergency stop that is on
}

// CloseRequest asks to close tunnels.
type CloseRequest struct {
	IDs    []string `json:"ids"`
	Reason string   `json:"reason,omitempty"`
}

// Closed is the outcome of a [CloseRequest].
type Closed struct {
	Closed  int      `json:"closed"`
	Unknown []string `json:"unknown,omitempty"` // ids of no open tunnel
}

// StopRequest asks for the emergency stop, or for its end.
type StopRequest struct {
	Reason string `json:"reason,omitempty"`
}

// Stop is an emergency stop.
type Stop struct {
	Since  time.Time `json:"since"`
	By     string    `json:"operator"`
	Reason string    `json:"reason,omitempty"`
}

// Stopped is the result of an emergency stop.
type Stopped struct {
	Stop
	Closed   int      `json:"closed"`             // tunnels and requests that were ended
	Warnings []string `json:"warnings,omitempty"` // what did not work besides: everything is stopped all the same
}

// StopLifted is the result of lifting an emergency stop.
type StopLifted struct {
	Was *Stop `json:"was,omitempty"` // nil: nothing was stopped
}

// PolicyState is what decides.
type PolicyState struct {
	Revision        string `json:"revision"`
	Commit          string `json:"commit,omitempty"`
	Changed         bool   `json:"changed"`
	LastReloadError string `json:"last_reload_error,omitempty"` // empty: the latest state is active
	// Pending is how many repositories have a changed policy that is not checked yet, and
	// PendingRepositories names the first of them.
	Pending             int    `json:"pending,omitempty"`
	PendingRepositories string `json:"pending_repositories,omitempty"`
}

// Deliveries are the accepted webhook deliveries that all instances share.
type Deliveries interface {
	// List returns deliveries, the latest first, without header fields and bodies.
	List(ctx context.Context, by Operator, f webhook.DeliveryFilter) ([]webhook.StoredDelivery, error)
	// Show returns a delivery, with its body only if the request wants it. A shown body is
	// recorded first.
	Show(ctx context.Context, by Operator, r ShowDelivery) (ShownDelivery, error)
	// Replay sends a delivery to an endpoint again.
	Replay(ctx context.Context, by Operator, r ReplayDelivery) (ReplayedDelivery, error)
	// Trace returns the present outcome of a delivery of the last five minutes.
	Trace(ctx context.Context, by Operator, r TraceDelivery) (webhook.DeliveryTrace, error)
}

// TraceDelivery names a delivery by its body.
type TraceDelivery struct {
	Receiver string `json:"receiver"`
	Digest   string `json:"body_digest"` // SHA-256, hexadecimal
}

// ShowDelivery requests one delivery.
type ShowDelivery struct {
	ID     string `json:"id"`
	Body   bool   `json:"body,omitempty"`
	Reason string `json:"reason,omitempty"` // of a request for the body
}

// ShownDelivery is a delivery, with its body if it was requested.
type ShownDelivery struct {
	webhook.StoredDelivery
	Body []byte `json:"body,omitempty"` // base64 in JSON
}

// ReplayDelivery requests that a delivery is sent again.
type ReplayDelivery struct {
	ID       string `json:"id"`
	Endpoint string `json:"endpoint,omitempty"` // empty: the only one that the delivery had
	Reason   string `json:"reason"`
}

// ReplayedDelivery is a delivery that waits to be sent again.
type ReplayedDelivery struct {
	ID       string `json:"id"`
	Endpoint string `json:"endpoint"`
}
