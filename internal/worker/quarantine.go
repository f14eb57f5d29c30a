package worker

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// quarantined is a blame key whose calls are refused for a while.
type quarantined struct {
	share  string
	deaths int
	death  *Death
	until  time.Time
}

// maxQuarantine bounds how long calls are refused after a death.
const maxQuarantine = 10 * time.Minute

// maxQuarantined bounds how many blame keys are remembered. When there are more,
// those are forgotten whose time is over, and then any.
const maxQuarantined = 4096

// quarantined returns why calls with a blame key are refused now, or nil. The lock
// is held.
func (p *Pool) quarantined(blame string) *Quarantined {
	if blame == "" {
		return nil
	}
	q := p.quarantine[blame]
	if q == nil || !time.Now().Before(q.until) {
		return nil
	}
	return &Quarantined{Death: q.death, Until: q.until}
}

// isolate refuses calls with a blame key from now on, for longer with each death.
// The lock is held.
func (p *Pool) isolate(blame, share string, d *Death) {
	if blame == "" {
		return
	}
	now := time.Now()
	q := p.quarantine[blame]
	if q == nil {
		if len(p.quarantine) >= maxQuarantined {
			p.forgetQuarantined(now)
		}
		q = &quarantined{share: share}
		p.quarantine[blame] = q
	}
	for range min(int(now.Sub(q.until)/maxQuarantine), q.deaths) {
		q.deaths-- // none for a while
	}
	q.deaths++
	q.death = d
	q.until = p.quarantineEnd(q)
}

// Diagnosed reports where the latest call with a key died, which the pool did not know; 0
// if that is still not known. It restarts the quarantine of the key, without another death:
// the caller's diagnosis took part of it. It is safe for concurrent use.
func (p *Pool) Diagnosed(key string, mark uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.quarantine[key]
	if q == nil {
		return
	}
	q.until = p.quarantineEnd(q)
	if q.death.Mark == 0 {
		located := *q.death
		located.Mark = mark
		q.death = &located
	}
}

// refuseWaiting finishes the interactive calls of a share that wait with a key that is
// quarantined: each of them may end another worker. The lock is held.
func (p *Pool) refuseWaiting(s *share, key string) {
	refusal := p.quarantined(key)
	if refusal == nil {
		return
	}
	for _, t := range slices.Clone(s.waiting[Interactive]) {
		if t.QuarantineKey == key {
			p.remove(t)
			p.status.Quarantined++
			t.finish(nil, refusal)
		}
	}
}

// quarantineEnd is when a quarantine that starts now ends. The lock is held.
func (p *Pool) quarantineEnd(q *quarantined) time.Time {
	return time.Now().Add(min(maxQuarantine, p.config.Quarantine<<min(q.deaths-1, 16)))
}

func (p *Pool) forgetQuarantined(now time.Time) {
	for pass := range 2 {
		for blame, q := range p.quarantine {
			if pass > 0 || now.After(q.until) {
				delete(p.quarantine, blame)
			}
			if len(p.quarantine) <= maxQuarantined/2 {
				return
			}
		}
	}
}

func bytesText(n int64) string {
	if n >= 1<<20 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d KiB", n>>10)
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}
