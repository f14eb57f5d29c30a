package webhook

import (
	"errors"
	"net/http"
	"net/netip"
	"time"
)

// The errors of operations on stored deliveries.
var (
	// ErrDeliveryNotFound is returned, wrapped, where the queue has no such delivery.
	ErrDeliveryNotFound = errors.New("the queue has no such delivery: it was never accepted, or it was deleted because of its age")
	// ErrBodyDeleted is returned, wrapped, where a delivery is listed and its body is not kept.
	ErrBodyDeleted = errors.New("its body was deleted: it is older than webhooks.body_max_age")
)

// StoredDelivery is an accepted delivery in the queue, without its body.
type StoredDelivery struct {
	ID         string    `json:"id"` // UUID, the same as in the audit log
	Received   time.Time `json:"received_at"`
	Receiver   string    `json:"receiver"`
	Kind       string    `json:"kind"`
	Event      string    `json:"event"`
	Repository string    `json:"repository,omitempty"`
	RequestID  string    `json:"request_id,omitempty"`
	// Attempt is Bitbucket's number of the attempt; 0: none was given.
	Attempt   int          `json:"attempt,omitempty"`
	Client    netip.Addr   `json:"client,omitzero"`
	Digest    string       `json:"body_digest"` // SHA-256, hexadecimal
	BodyBytes int64        `json:"body_bytes"`  // 0: deleted because of its age
	Header    http.Header  `json:"header,omitempty"`
	Tasks     []StoredTask `json:"tasks"` // in the order of acceptance
}

// StoredTask is a task of a stored delivery.
type StoredTask struct {
	ID        int64      `json:"id"`
	Action    Action     `json:"action"`
	Endpoint  string     `json:"endpoint"`
	State     TaskState  `json:"state"`
	Attempts  int        `json:"attempts"`
	NotBefore *time.Time `json:"not_before,omitempty"` // of the next attempt; nil: now
	Created   time.Time  `json:"created_at"`
	Finished  *time.Time `json:"finished_at,omitempty"` // nil: it has not ended
	LastError string     `json:"last_error,omitempty"`
}

// DeliveryFilter selects stored deliveries. A zero field selects all.
type DeliveryFilter struct {
	Receiver   string    `json:"receiver,omitempty"`
	Endpoint   string    `json:"endpoint,omitempty"`
	Repository string    `json:"repository,omitempty"`
	State      TaskState `json:"state,omitempty"` // of at least one task, of Endpoint if that is given
	Since      time.Time `json:"since,omitzero"`  // of the receipt: from Since on
	Until      time.Time `json:"until,omitzero"`  // of the receipt: before Until
	Limit      int       `json:"limit,omitempty"` // at most; 0: 100. The maximum is 1000.
}

// Replayer is the operator who orders a replay, for the audit log.
type Replayer struct {
	Name, Reason string
	UID          uint32
	PID          int32
}
