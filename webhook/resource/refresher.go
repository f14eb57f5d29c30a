// Package resource carries out the action refresh_resource: it matches a delivery with a
// configured condition, and makes a controller read its Git repository now. It does so by
// an annotation of objects in Kubernetes, or by a request to an endpoint.
//
// A [Refresher] is the sender of one resource for package dispatch, which leases the tasks
// and repeats failed attempts.
package resource

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sallyport/sallyport/internal/pause"
	"github.com/sallyport/sallyport/webhook"
	"github.com/sallyport/sallyport/webhook/dispatch"
)

// interval is the least time between the starts of two refreshes of a resource.
const interval = time.Second

// Config configures a [Refresher].
type Config struct {
	Match Match
	// Refresh makes one attempt to refresh the resource, because of a task.
	Refresh func(ctx context.Context, t webhook.Task) dispatch.Attempt
	// Latest returns the largest id of the resource's open tasks. An error limits a refresh
	// to the task that caused it, and those before. Nil: the same.
	Latest func(ctx context.Context) (int64, error)
	// Interval is between the starts of refreshes; 0: 1 s.
	Interval time.Duration
}

// Refresher refreshes one resource. It is safe for concurrent use.
//
// One refresh serves every delivery that was accepted before the refresh began. The ids of
// tasks ascend in the order of acceptance, so no clock is compared: a task is covered by a
// refresh if its id is not above the largest that was open when the refresh began. A task
// of a replay has an id of its own, and refreshes again.
type Refresher struct {
	config  Config
	matches func(*webhook.Event) bool
	turn    chan struct{} // holds one value while a refresh is made; guards the following
	began   time.Time     // when the last refresh began
	// covered is the largest id that a successful refresh has covered.
	covered int64
}

// New returns a refresher. It returns an error if the resource cannot be refreshed, or if no
// delivery can ever match.
func New(c Config) (*Refresher, error) {
	if c.Refresh == nil {
		return nil, errors.New("resource: there is nothing to refresh")
	}
	if len(c.Match.Repositories) == 0 && len(c.Match.PullRequests) == 0 {
		return nil, errors.New("resource match: it has neither repositories nor pull_requests: no delivery can match")
	}
	c.Interval = cmp.Or(c.Interval, interval)
	return &Refresher{config: c, matches: c.Match.Matches, turn: make(chan struct{}, 1)}, nil
}

// Send carries out a task: it is [dispatch.Endpoint.Send]. A delivery that does not match,
// and one that an earlier refresh covers, is carried out without a request.
func (r *Refresher) Send(ctx context.Context, t webhook.Task) dispatch.Attempt {
	event, err := webhook.Parse(kindOf(t.Event), t.Event, t.Body)
	if err != nil {
		return dispatch.Attempt{Decided: dispatch.Gone, Detail: fmt.Sprintf("refresh_resource: the stored body cannot be read: %v", err)}
	}
	if !r.matches(event) {
		return dispatch.Attempt{Decided: dispatch.Delivered}
	}
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return dispatch.Attempt{Err: context.Cause(ctx)}
	}
	if t.ID <= r.covered {
		return dispatch.Attempt{Decided: dispatch.Delivered}
	}
	if !r.began.IsZero() && !pause.For(ctx, time.Until(r.began.Add(r.config.Interval))) {
		return dispatch.Attempt{Err: context.Cause(ctx)}
	}
	through := r.through(ctx, t.ID)
	r.began = time.Now()
	a := r.config.Refresh(ctx, t)
	if a.Outcome() == dispatch.Delivered {
		r.covered = max(r.covered, through)
	}
	return a
}

// through returns the largest id that a refresh which begins now covers.
func (r *Refresher) through(ctx context.Context, id int64) int64 {
	if r.config.Latest == nil {
		return id
	}
	latest, err := r.config.Latest(ctx)
	if err != nil {
		return id
	}
	return max(id, latest)
}

// kindOf returns the product that documents an event: no key is documented by both.
func kindOf(key string) webhook.Kind {
	if webhook.IsEvent(webhook.Cloud, key) {
		return webhook.Cloud
	}
	return webhook.DataCenter
}
