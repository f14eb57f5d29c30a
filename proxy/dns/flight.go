package dns

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/sallyport/sallyport/internal/fair"
)

// result is the outcome of one lookup of a name: addresses, or the kind and
// cause of there being none.
type result struct {
	addrs []netip.Addr
	kind  Kind
	cause error
	ttl   time.Duration // how long to believe it; 0: not at all
}

// flight is one lookup in progress with its waiting callers. It has its slot: a caller
// that joins it waits for the name servers and not for a share.
type flight struct {
	done    chan struct{} // closed once result is set
	result  result
	cancel  context.CancelFunc
	waiters int       // guarded by Resolver.mu
	lease   fair.Slot // the flight's goroutine's
}

// queued are the callers that wait for a slot in order to look one name up: what
// ends the wait of each.
type queued map[*context.CancelFunc]struct{}

// share returns what is cached, joins a lookup that is under way, or starts one when the
// subject has a slot for it. The lookup has its own deadline and ends early only when no
// caller waits for it.
func (r *Resolver) share(ctx context.Context, subject fair.Subject, host string) (result, error) {
	var lease fair.Slot
	defer func() { lease.Release() }()
	for granted := false; ; {
		if err := ctx.Err(); err != nil {
			return result{}, waiterError(host, err)
		}
		current := r.settings()
		r.mu.Lock()
		r.follow(current)
		if found, ok := r.cache.get(host, r.now()); ok {
			r.mu.Unlock()
			return found, nil
		}
		f := r.flights[host]
		if f == nil && granted {
			f = r.begin(host, subject, current, lease)
			lease = fair.Slot{}
		}
		if f != nil {
			f.waiters++
			r.mu.Unlock()
			lease.Release()
			return r.await(ctx, host, f)
		}
		waiting, cancel := context.WithCancel(ctx)
		leave := r.enqueue(host, cancel)
		r.mu.Unlock()
		var err error
		lease, err = r.lookups.Acquire(waiting, subject, 0)
		begun := waiting.Err() != nil // a lookup of the name: to wait further would be for nothing
		leave()
		if granted = err == nil; granted || begun {
			continue
		}
		return result{}, &Error{Kind: KindOverloaded, Host: host, Err: err}
	}
}

// follow empties the cache where the settings have changed: other servers may
// answer otherwise. Lookups under way still serve those who wait, and are not
// cached. The caller holds mu.
func (r *Resolver) follow(current *settings) {
	if r.seen != current {
		r.seen, r.cache, r.flights = current, newCache(r.config.CacheSize), map[string]*flight{}
	}
}

// enqueue notes a caller that is going to wait for a slot, until leave is called.
// The caller holds mu.
func (r *Resolver) enqueue(host string, cancel context.CancelFunc) (leave func()) {
	q := r.queued[host]
	if q == nil {
		q = queued{}
		r.queued[host] = q
	}
	q[&cancel] = struct{}{}
	return func() {
		cancel()
		r.mu.Lock()
		defer r.mu.Unlock()
		if delete(q, &cancel); len(q) == 0 && len(r.queued[host]) == 0 {
			delete(r.queued, host)
		}
	}
}

// begin starts a flight with a slot. The caller holds mu.
func (r *Resolver) begin(host string, subject fair.Subject, current *settings, lease fair.Slot) *flight {
	lookup, cancel := context.WithTimeout(context.Background(), r.config.Timeout)
	f := &flight{done: make(chan struct{}), cancel: cancel, lease: lease}
	r.flights[host] = f
	for cancel := range r.queued[host] {
		(*cancel)()
	}
	delete(r.queued, host)
	go r.run(lookup, f, host, subject, current)
	return f
}

// await waits for a flight.
func (r *Resolver) await(ctx context.Context, host string, f *flight) (result, error) {
	select {
	case <-f.done:
		return f.result, nil
	case <-ctx.Done():
		r.leave(host, f)
		return result{}, waiterError(host, ctx.Err())
	}
}

// leave takes one waiter off a flight, and ends it after the last one.
func (r *Resolver) leave(host string, f *flight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f.waiters--; f.waiters > 0 {
		return
	}
	f.cancel()
	if r.flights[host] == f {
		delete(r.flights, host) // who comes now must not join a canceled lookup
	}
}

// run is the flight's goroutine.
func (r *Resolver) run(ctx context.Context, f *flight, host string, subject fair.Subject, current *settings) {
	defer f.cancel()
	found := r.lookup(ctx, host, current.servers)
	f.lease.Release()
	f.result = found
	r.mu.Lock()
	if r.flights[host] == f {
		delete(r.flights, host)
		if f.result.ttl > 0 {
			r.cache.put(host, fair.Subject{Issuer: subject.Issuer, Repository: subject.Repository}, f.result, r.now().Add(f.result.ttl))
		}
	}
	r.mu.Unlock()
	close(f.done)
}

// waiterError is what a caller gets whose context ended.
func waiterError(host string, err error) error {
	kind := KindCanceled
	if errors.Is(err, context.DeadlineExceeded) {
		kind = KindTimeout
	}
	return &Error{Kind: kind, Host: host, Err: err}
}
