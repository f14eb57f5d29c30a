// Package dispatch carries out the tasks of accepted deliveries: it sends each to its
// endpoint over HTTP until the endpoint accepts it or its time budget ends.
//
// A [Dispatcher] claims tasks of a [webhook.Store] and gives them to one [Sender] for each
// endpoint. Every instance runs one. The store holds the order, the leases and the results,
// so that instances share the work, and a task whose instance ends is claimed by another.
package dispatch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/sallyport/sallyport/webhook"
)

// Bounds of the deliveries, with their bodies, that an instance sends at the same time.
// Each endpoint has a share of its own: a slow endpoint cannot use that of another.
const (
	maxPerEndpoint = 8
	maxInTotal     = 64
)

// Endpoint is one endpoint that deliveries are sent to.
type Endpoint struct {
	Name string
	// Label returns the name that the log has; nil: Name. It must not block.
	Label    func() string
	RetryFor time.Duration // from the receipt of a delivery; 0: 24 h
	// Action is the action of the tasks that Send carries out; empty: [webhook.Forward]. A
	// task with another action becomes a dead letter.
	Action webhook.Action
	// Send makes one attempt, and ends early if ctx ends: a [Sender]'s method.
	Send func(ctx context.Context, t webhook.Task) Attempt
}

// Observer is notified of results. Its methods are called concurrently and must not block.
type Observer interface {
	Attempted(endpoint string, outcome Outcome, d time.Duration)
	DeadLetter(endpoint string)
	LeaseLost(endpoint string)
}

// Config configures a [Dispatcher].
type Config struct {
	Store     webhook.Store
	Endpoints []Endpoint
	Lease     time.Duration // of a claimed task, extended while it is sent; 0: 30 s
	Timing    Timing
	// AbortClaims ends a claim in progress at a shutdown. It is for a store whose claims
	// wait for tasks, and which releases what an aborted claim has leased.
	AbortClaims bool
	Observer    Observer     // nil: none
	Log         *slog.Logger // nil: none
}

// Dispatcher sends the deliveries of all its endpoints. Its methods are safe for concurrent
// use.
type Dispatcher struct {
	store    webhook.Store
	lease    time.Duration
	observer Observer
	log      *slog.Logger
	timing   Timing
	workers  map[string]*worker
	order    []*worker // as configured

	abortClaims bool

	stop  chan struct{} // closed by stopClaiming
	once  sync.Once
	done  chan struct{} // closed when Run has returned
	tasks sync.WaitGroup
	sends context.Context // of all attempts; canceled by abort
	abort context.CancelCauseFunc
}

var errShutdown = errors.New("the instance is shutting down")

// New returns a dispatcher that claims nothing before [Dispatcher.Run]. It returns an error
// if two endpoints have one name, or if an endpoint cannot send.
func New(c Config) (*Dispatcher, error) {
	d := &Dispatcher{
		store: c.Store, lease: cmp.Or(c.Lease, 30*time.Second), observer: c.Observer, log: c.Log, timing: c.Timing,
		workers: make(map[string]*worker), stop: make(chan struct{}), done: make(chan struct{}),
	}
	if d.store == nil {
		return nil, errors.New("dispatch: there is no store")
	}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	if d.observer == nil {
		d.observer = noObserver{}
	}
	d.timing.setDefaults()
	d.abortClaims = c.AbortClaims
	d.sends, d.abort = context.WithCancelCause(context.Background())
	slots := min(maxPerEndpoint, max(1, maxInTotal/max(1, len(c.Endpoints))))
	for _, e := range c.Endpoints {
		if e.Name == "" || e.Send == nil || d.workers[e.Name] != nil {
			return nil, fmt.Errorf("dispatch: endpoint %q has no name, a name twice, or no sender", e.Name)
		}
		e.Action = cmp.Or(e.Action, webhook.Forward)
		e.RetryFor = cmp.Or(e.RetryFor, 24*time.Hour)
		w := &worker{d: d, endpoint: e, slots: slots, wake: make(chan struct{}, 1), breaker: breaker{timing: &d.timing}}
		d.workers[e.Name] = w
		d.order = append(d.order, w)
	}
	return d, nil
}

// Run sends deliveries until [Dispatcher.Shutdown] or until ctx ends. If ctx ends, attempts
// in progress are aborted, and their tasks can be claimed again. It is called once.
func (d *Dispatcher) Run(ctx context.Context) {
	defer close(d.done)
	stopAborting := context.AfterFunc(ctx, func() {
		d.stopClaiming()
		d.abort(errShutdown)
	})
	defer stopAborting()
	claiming, cancel := context.WithCancel(d.sends)
	go func() {
		<-d.stop
		cancel()
	}()
	var workers sync.WaitGroup
	for _, w := range d.order {
		workers.Go(func() { w.run(claiming) })
	}
	for name := range d.store.Wake(claiming) {
		if w := d.workers[name]; w != nil {
			w.signal()
		}
	}
	d.stopClaiming() // also if the store closed the channel
	workers.Wait()
	d.tasks.Wait()
	d.abort(errShutdown)
}

func (d *Dispatcher) stopClaiming() { d.once.Do(func() { close(d.stop) }) }

// Shutdown claims nothing more, and waits until the attempts in progress have ended. When
// ctx ends they are aborted; their tasks can be claimed again at once. It returns after Run
// has returned, and must not be called without Run.
func (d *Dispatcher) Shutdown(ctx context.Context) {
	d.stopClaiming()
	select {
	case <-d.done:
	case <-ctx.Done():
		d.abort(errShutdown)
		<-d.done
	}
}

// Status is the state of one endpoint.
type Status struct {
	Endpoint  string
	Circuit   Circuit
	OpenUntil time.Time // of an open circuit
	Sending   int
	Delivered time.Time // the last success; zero: none since the start
	Cause     string    // of the last failure, if no delivery succeeded since
}

// Status returns the state of all endpoints in the order of the configuration.
func (d *Dispatcher) Status() []Status {
	list := make([]Status, len(d.order))
	for i, w := range d.order {
		list[i] = w.status()
	}
	return list
}

type noObserver struct{}

func (noObserver) Attempted(string, Outcome, time.Duration) {}
func (noObserver) DeadLetter(string)                        {}
func (noObserver) LeaseLost(string)                         {}
