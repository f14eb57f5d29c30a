package webhook

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// ErrLeaseLost is the error of an acknowledgement that came too late: the lease of the
// task ended and another claimer holds the task, or the task has ended. The acknowledgement
// changed nothing. The delivery may therefore arrive twice, with the same id.
var ErrLeaseLost = errors.New("webhook task: its lease was lost")

// TaskState is the state of a task. The zero value is invalid.
type TaskState string

// The states. Pending and leased tasks are open: a later task of the same stream waits for
// them.
const (
	TaskPending TaskState = "pending"
	TaskLeased  TaskState = "leased" // open; pending again once its lease has expired
	TaskDone    TaskState = "done"
	TaskDead    TaskState = "dead" // a dead letter: given up, and kept for replay
)

// Task is one route of an accepted delivery: the delivery's body goes to one endpoint. A
// Task that [Store.Claim] returned is leased to the caller.
type Task struct {
	ID    int64 // ascending in the order of acceptance
	Fence int64 // of this lease; a larger number each time that the task is claimed
	// Delivery is the delivery's id, a UUID: the same at each attempt and in the audit log.
	Delivery string
	Action   Action
	Endpoint string
	// Stream names the ordered queue that the task belongs to: its endpoint and repository.
	Stream  string
	Attempt int // of this lease, from 1. An attempt without a result counts.
	// Leased is when this lease began, and LeasedBefore when the one before it did, by the
	// clock of the store. Zero: not known, or there was none.
	Leased, LeasedBefore time.Time

	Received   time.Time // when the delivery came
	Receiver   string
	Event      string // X-Event-Key
	Repository string // UUID, or full name where Bitbucket gives none; empty: none
	RequestID  string // Bitbucket's id of the request: a UUID, or empty
	// Header are the stored header fields: never a credential.
	Header http.Header
	// Body is the body as received. It is nil if it was deleted because of its age: the task
	// cannot be carried out.
	Body []byte
}

// TaskResult is how an endpoint accepted a task's delivery.
type TaskResult struct {
	Status   int           // HTTP status of the endpoint's answer; 0: there is none
	Duration time.Duration // of the last attempt
}

// Store holds the tasks of accepted deliveries. All instances and agents share one store.
// Its methods are called concurrently.
//
// A method that ends a lease returns an error that wraps [ErrLeaseLost], and changes
// nothing, if the task's fence is not the present one. Any other error means that the
// outcome is unknown: the caller repeats the call, or lets the lease expire. A repeated
// call whose first one succeeded returns [ErrLeaseLost].
type Store interface {
	// Claim leases open tasks of an endpoint, of at most n streams, one of each, and returns
	// those it could lease. A task is leased only while no earlier task of its stream is
	// open, and not before its time. The claim is durable when Claim returns; the attempt is
	// counted then. A lease that is neither ended nor extended expires after the given time
	// by the database's clock, which lets others claim the task.
	Claim(ctx context.Context, endpoint string, n int, lease time.Duration) ([]Task, error)
	// Extend lets a lease last the given time from now.
	Extend(ctx context.Context, t Task, lease time.Duration) error
	// Done ends a task that its endpoint has accepted. The event webhook_delivered is
	// committed in the same transaction. If the lease is lost during the call, an event
	// webhook_unqueued follows it.
	Done(ctx context.Context, t Task, r TaskResult) error
	// Retry ends the lease of a task that failed. The task can be claimed again from the
	// given time on, at most an hour from now; the rest of its stream waits for it. The store
	// keeps the pause until then by its own clock. With the first failure of a task the
	// event webhook_failed is committed in the same transaction.
	Retry(ctx context.Context, t Task, at time.Time, cause string) error
	// Release ends the lease of a task whose attempt was aborted or never began: that is no
	// failure of the endpoint, and no event. The task can be claimed again at once.
	Release(ctx context.Context, t Task) error
	// Dead ends a task as a dead letter, and frees its stream. The event webhook_failed with
	// final=true is committed in the same transaction.
	Dead(ctx context.Context, t Task, cause string) error
	// Wake returns a channel of the names of endpoints that may have tasks to claim: new
	// ones, within moments, and due or expired ones, each second. The channel is closed when
	// the context ends. A name is dropped if the receiver is slow: the caller must also call
	// Claim for every endpoint from time to time without being woken.
	Wake(ctx context.Context) <-chan string
}
