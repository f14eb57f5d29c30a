package dns

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	mdns "github.com/miekg/dns"
)

const (
	// attempts is how often each server is asked one question.
	attempts = 2
	// partialWait is how long addresses of one family wait for the other's. RFC
	// 8305 section 3 has 50 ms, for people; a resolver that has to ask further
	// needs longer, and builds would rather have both.
	partialWait = 250 * time.Millisecond
	// failureTTL keeps a failed lookup from being repeated at once (RFC 9520
	// section 3.2: at least one second).
	failureTTL = time.Second
	// penalty is how long a server that did not answer is asked last.
	penalty = 10 * time.Second
)

// outcome is how the question for one family went.
type outcome struct {
	answer answer
	err    error
}

// lookup asks for both families and combines what comes.
func (r *Resolver) lookup(ctx context.Context, host string, servers []netip.AddrPort) result {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // before the wait

	outcomes := [2]outcome{}
	arrived := make(chan int, 2)
	for i, qtype := range []uint16{mdns.TypeA, mdns.TypeAAAA} {
		wg.Go(func() {
			a, err := r.query(ctx, servers, question{name: mdns.Fqdn(host), qtype: qtype})
			outcomes[i] = outcome{a, err}
			arrived <- i
		})
	}
	first := <-arrived
	if len(outcomes[first].answer.addrs) == 0 {
		<-arrived
		return r.combine(outcomes)
	}
	timer := time.NewTimer(partialWait)
	defer timer.Stop()
	select {
	case <-arrived:
		return r.combine(outcomes)
	case <-timer.C:
		// The other goroutine may still write its own outcome: leave it out.
		only := [2]outcome{}
		only[first] = outcomes[first]
		only[1-first].err = context.DeadlineExceeded
		return r.combine(only)
	}
}

// combine makes one result of both families.
func (r *Resolver) combine(outcomes [2]outcome) result {
	var found result
	var failed []error
	missing, ttl, negative := false, r.config.MaxTTL, r.config.NegativeTTL
	for _, o := range outcomes {
		switch {
		case o.err != nil:
			failed = append(failed, o.err)
		case len(o.answer.addrs) > 0:
			found.addrs = append(found.addrs, o.answer.addrs...)
			ttl = min(ttl, o.answer.ttl)
		default:
			missing = missing || o.answer.missing
			negative = min(negative, o.answer.ttl)
		}
	}
	switch {
	case len(found.addrs) > 0 && len(failed) > 0:
		found.ttl = r.config.MinTTL // better ones may come
	case len(found.addrs) > 0:
		found.ttl = max(ttl, r.config.MinTTL)
	case missing: // of any type, whatever the other question met (RFC 8020)
		found.kind, found.ttl = KindNotFound, max(negative, r.config.MinTTL)
	case len(failed) > 0: // the other family may have had some
		found.kind, found.cause, found.ttl = kindOf(failed), errors.Join(failed...), failureTTL
	default:
		found.kind, found.ttl = KindNoAddress, max(negative, r.config.MinTTL)
	}
	return found
}

// kindOf is the kind of the first failure that is more specific than a timeout.
func kindOf(failed []error) Kind {
	for _, err := range failed {
		if f, ok := errors.AsType[*failure](err); ok {
			return f.kind
		}
	}
	return KindTimeout
}

// ask puts one question to each server in turn until one of them knows.
func (r *Resolver) query(ctx context.Context, servers []netip.AddrPort, q question) (answer, error) {
	var last error
	for range attempts {
		for _, server := range r.health.order(servers, r.now()) {
			attempt, cancel := context.WithTimeout(ctx, r.config.AttemptTimeout)
			a, err := r.exchange(attempt, server, q)
			cancel()
			if err == nil {
				r.health.succeeded(server)
				return a, nil
			}
			if ctx.Err() != nil {
				// Not the server's fault; but an earlier server's failure is more
				// specific.
				return answer{}, cmp.Or(last, fmt.Errorf("%s: %w", server, ctx.Err()))
			}
			last = fmt.Errorf("%s: %w", server, err)
			if _, ok := errors.AsType[*failure](err); !ok || errors.Is(err, errUnreachable) {
				r.health.silent(server, r.now())
			}
		}
	}
	if last == nil {
		return answer{}, &failure{kind: KindServerFailure, err: errors.New("no server is known")}
	}
	return answer{}, last
}

// health remembers which servers lately did not answer, so that a dead first
// one does not cost every lookup a timeout. Its zero value is ready.
type health struct {
	mu     sync.Mutex
	failed map[netip.AddrPort]time.Time
}

// order returns the servers, those that lately answered first.
func (h *health) order(servers []netip.AddrPort, now time.Time) []netip.AddrPort {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.failed) == 0 {
		return servers
	}
	rank := func(server netip.AddrPort) int {
		if at, ok := h.failed[server]; ok && now.Before(at.Add(penalty)) {
			return 1
		}
		return 0
	}
	ordered := slices.Clone(servers)
	slices.SortStableFunc(ordered, func(a, b netip.AddrPort) int { return rank(a) - rank(b) })
	return ordered
}

// silent notes a server that did not answer.
func (h *health) silent(server netip.AddrPort, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failed == nil || len(h.failed) > 64 { // resolv.conf may change forever
		h.failed = map[netip.AddrPort]time.Time{}
	}
	h.failed[server] = now
}

// answered notes one that did.
func (h *health) succeeded(server netip.AddrPort) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.failed, server)
}
