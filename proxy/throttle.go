package proxy

import (
	"net/netip"
	"sync"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/fair"
)

// throttle bounds how many events one key, such as an address, can cause in a second. It
// counts a bounded number of keys: if more occur in one second, the rest share one count.
type throttle[K comparable] struct {
	perSecond int

	mu     sync.Mutex
	second int64
	counts map[K]int
}

const throttleKeys = 4096

// take reports whether the key may cause one more event at that time.
func (t *throttle[K]) take(key K, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := now.Unix(); s != t.second || t.counts == nil {
		t.second, t.counts = s, make(map[K]int)
	}
	if _, known := t.counts[key]; !known && len(t.counts) >= throttleKeys {
		var rest K
		key = rest
	}
	if t.counts[key] >= t.perSecond {
		return false
	}
	t.counts[key]++
	return true
}

// Answers per second to all clients without an accepted credential that are never
// delayed, and how many of them at once.
const (
	strangersPerSecond = 500
	strangersBurst     = 50
)

// strangers paces the answers to clients without an accepted credential. git and Java
// send every first request without one, so that a delay must not concern them: an answer
// is delayed if there are more than [strangersPerSecond], and its address has had more
// than its own rate. The zero value delays all of them. It is safe for concurrent use.
type strangers struct {
	addresses throttle[netip.Addr]

	mu    sync.Mutex
	spare budget
}

// delay reports whether the next answer to a client is to be delayed.
func (s *strangers) delay(client netip.Addr, now time.Time) bool {
	own := s.addresses.take(host(client), now)
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.spare.take(now, strangersBurst, time.Second/strangersPerSecond) && !own
}

// DelayRefusal reports whether the answer to a client without an accepted credential is to
// be delayed: see [Refusal.Throttled].
func (g *Gate) DelayRefusal(client netip.Addr) bool {
	return g.strangers.delay(client, g.config.Now())
}

// host returns what counts as one address: for IPv6 the /64, since one host has that many
// addresses.
func host(addr netip.Addr) netip.Addr {
	addr = addr.Unmap()
	if addr.Is6() {
		if p, err := addr.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return addr
}

// refusalLimits bound the events of refusals that no other limit bounds: those of
// clients whose credential is not accepted, by address; those of known steps, by
// step and by repository. A refusal over a limit is counted and not recorded.
type refusalLimits struct {
	addresses    throttle[netip.Addr]
	steps        throttle[fair.Subject]
	repositories throttle[fair.Subject]
	named        throttle[fair.Subject] // repositories that credentials name that are not accepted
}

// repositoryRefusals is how many times a step's refusals a repository may record.
const repositoryRefusals = 4

func (l *refusalLimits) set(perSecond int) {
	l.addresses.perSecond, l.steps.perSecond = perSecond, perSecond
	l.repositories.perSecond, l.named.perSecond = repositoryRefusals*perSecond, repositoryRefusals*perSecond
}

// take reports whether one more refusal may be recorded. Anyone may have a credential
// that is not accepted: its name gives no more events than the address has, and uses none
// of the step that it names.
func (l *refusalLimits) take(p *identity.Principal, refused bool, client netip.Addr, now time.Time) bool {
	step := subject(p)
	repository := fair.Subject{Issuer: step.Issuer, Repository: step.Repository}
	switch {
	case p == nil:
		return l.addresses.take(host(client), now)
	case refused:
		return l.addresses.take(host(client), now) && l.named.take(repository, now)
	}
	return l.steps.take(step, now) && l.repositories.take(repository, now)
}
