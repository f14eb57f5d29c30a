package manager

import (
	"context"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/internal/worker"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/source"
)

// Source is the origin of the policy.
type Source interface {
	// Offer returns the present state of the source. after is the active revision,
	// empty at the start: a source with a history refuses a state that does not follow
	// it. The error is of type *source.Refusal if the source answered.
	Offer(ctx context.Context, after policy.Revision) (*policy.Snapshot, error)
	// String names the source, without a secret.
	String() string
}

// Log is where the manager records events, and keeps the content of policies.
type Log interface {
	// Record returns when the event is durable.
	Record(ctx context.Context, e *audit.Event) error
	// PutPolicy keeps the content of a revision under its digest.
	PutPolicy(ctx context.Context, digest string, content []byte) error
	// HasPolicy reports whether the content of a revision is kept.
	HasPolicy(ctx context.Context, digest string) (bool, error)
}

// Notifier reports reloads to the service manager.
type Notifier interface {
	Reloading()
	Ready(state string)
}

// GitConfig returns how to read the configured repository, kept in a folder of this name.
type GitConfig func(cfg *config.Config, folder string) (source.GitConfig, error)

// NoPolicyError is the error of a start whose policy is missing: policy.directory, or
// a folder in it.
type NoPolicyError struct{ err error }

func (e NoPolicyError) Error() string { return e.err.Error() }

func (e NoPolicyError) Unwrap() error { return e.err }

// policyDeath is the death of a worker that a repository's policy ended.
type policyDeath struct {
	repository string
	at         time.Time
	death      *worker.Death
}
