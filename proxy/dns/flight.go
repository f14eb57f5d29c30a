package dns

import (
	"context"
	"errors"
	"net/netip"
	"time"
)

// queueWait is how long a lookup waits for one of [Config.Concurrency] slots.
const queueWait = time.Second

// result is the outcome of one lookup of a name: addresses, or the kind and
// cause of there being none.
type result struct {
	addrs []netip.Addr
	kind  Kind
	cause error
	keep  time.Duration // how long to believe it; 0: not at all
}

// flight is one lookup under way and those who wait for it.
type flight struct {
	done    chan struct{} // closed once result is set
	result  result
	cancel  context.CancelFunc
	waiters int // guarded by Resolver.mu
}

// share returns what is cached, joins a lookup that is under way, or starts one.
// The lookup has its own deadline and ends early only when nobody waits for it.
func (r *Resolver) share(ctx context.Context, host string, current *settings) (result, error) {
	if err := ctx.Err(); err != nil {
		return result{}, waiterError(host, err)
	}
	r.mu.Lock()
	if r.seen != current {
		// Other servers may say other things. Lookups under way still serve
		// those who wait, and are not cached.
		r.seen, r.cache, r.flights = current, newCache(r.config.CacheSize), map[string]*flight{}
	}
	if found, ok := r.cache.get(host, r.now()); ok {
		r.mu.Unlock()
		return found, nil
	}
	f := r.flights[host]
	if f == nil {
		lookup, cancel := context.WithTimeout(context.Background(), r.config.Timeout)
		f = &flight{done: make(chan struct{}), cancel: cancel}
		r.flights[host] = f
		go r.run(lookup, f, host, current)
	}
	f.waiters++
	r.mu.Unlock()

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
		delete(r.flights, host) // who comes now must not join a cancelled lookup
	}
}

// run is the flight's goroutine.
func (r *Resolver) run(ctx context.Context, f *flight, host string, current *settings) {
	defer f.cancel()
	f.result = r.admit(ctx, host, current)
	r.mu.Lock()
	if r.flights[host] == f {
		delete(r.flights, host)
		if f.result.keep > 0 {
			r.cache.put(host, f.result, r.now().Add(f.result.keep))
		}
	}
	r.mu.Unlock()
	close(f.done)
}

// admit waits for a slot and looks the name up.
func (r *Resolver) admit(ctx context.Context, host string, current *settings) result {
	timer := time.NewTimer(queueWait)
	defer timer.Stop()
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
		return r.lookup(ctx, host, current.servers)
	case <-timer.C:
	case <-ctx.Done():
	}
	return result{kind: KindOverloaded, cause: errors.New("waited for other lookups to end")}
}

// waiterError is what a caller gets whose context ended.
func waiterError(host string, err error) error {
	kind := KindCanceled
	if errors.Is(err, context.DeadlineExceeded) {
		kind = KindTimeout
	}
	return &Error{Kind: kind, Host: host, Err: err}
}
