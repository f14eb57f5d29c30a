package worker

import (
	"slices"
	"time"
)

// share is one owner of calls. All shares get equal parts of the workers. All fields
// are under the pool's lock.
type share struct {
	name    string
	waiting [classes][]*task // by class
	running [classes]bool    // by class: one worker at a time
	listed  [classes]bool    // by class: in one of the pool's lists
	heavy   time.Time        // until when its interactive calls count as heavy
	used    float64          // seconds of processor time, halved every halfLife
	usedAt  time.Time
}

const halfLife = 10 * time.Second

// use adds processor time to what the share has used.
func (s *share) use(d time.Duration, now time.Time) {
	for since := now.Sub(s.usedAt); since > halfLife && s.used > 1e-6; since -= halfLife {
		s.used /= 2
	}
	s.usedAt = now
	s.used += d.Seconds()
	if d > heavyAfter {
		s.heavy = now.Add(heavyFor)
	}
}

// busy reports whether a call of the share waits or is executed.
func (s *share) busy() bool {
	for class := range s.waiting {
		if s.running[class] || len(s.waiting[class]) > 0 {
			return true
		}
	}
	return false
}

// maxShares is how many shares are remembered for what they have used.
const maxShares = 8 << 10

// forgetShares bounds the map of shares: those that wait for nothing and are not
// heavy. The lock is held.
func (p *Pool) forgetShares() {
	if len(p.shares) < maxShares {
		return
	}
	now := time.Now()
	for pass := range 2 {
		for name, s := range p.shares {
			if !s.busy() && (pass > 0 || now.After(s.heavy)) {
				delete(p.shares, name)
			}
			if len(p.shares) <= maxShares/2 {
				return
			}
		}
	}
}

// push puts a task at the end of its queue, or at the front. The lock is held.
func (p *Pool) push(t *task, front bool) {
	s := t.share
	if p.shares[s.name] == nil {
		p.shares[s.name] = s // it was forgotten while this call was executed
	}
	t.queued = true
	if front {
		s.waiting[t.Class] = slices.Insert(s.waiting[t.Class], 0, t)
	} else {
		s.waiting[t.Class] = append(s.waiting[t.Class], t)
	}
	p.waiting++
	p.list(s, t.Class)
}

// remove takes a task out of its queue. The lock is held.
func (p *Pool) remove(t *task) {
	list := t.share.waiting[t.Class]
	if i := slices.Index(list, t); i >= 0 {
		t.share.waiting[t.Class] = slices.Delete(list, i, i+1)
		p.waiting--
	}
	t.queued = false
}

// list puts a share into the list from which its calls of a class are dequeued, if
// such a call waits. The lock is held.
func (p *Pool) list(s *share, class Class) {
	if s.listed[class] || s.running[class] || len(s.waiting[class]) == 0 {
		return
	}
	s.listed[class] = true
	k := kindLight
	switch {
	case class != Interactive:
		k = kindOf[class]
	case time.Now().Before(s.heavy):
		k = kindHeavy
	}
	p.ready[k] = append(p.ready[k], s)
}

// kind is which of the pool's lists a batch comes from, in order of precedence.
type kind uint8

const (
	kindLight kind = iota
	kindUrgent
	kindHeavy
	kindBackground
	kindLong

	kinds = iota
)

// kindOf is the kind of the classes that have one kind, and classOf is the reverse.
var (
	kindOf  = [classes]kind{Urgent: kindUrgent, Background: kindBackground, Long: kindLong}
	classOf = [kinds]Class{kindUrgent: Urgent, kindBackground: Background, kindLong: Long}
)

// mayRun reports whether one more slot may execute calls of a kind. One slot is left
// to light calls and one to urgent calls, whatever the others do; of six or more, one
// is left to background calls too, whatever heavy and long calls do. The lock is held.
func (p *Pool) mayRun(k kind) bool {
	n := len(p.slots)
	most := 1
	switch k {
	case kindLight:
		return true
	case kindUrgent:
		return p.running[k] < 1
	case kindHeavy:
		most = max(1, n/2-2) // one on two processors, of which the other serves light calls
	case kindBackground:
		most = max(1, n/2-1)
	}
	if k == kindBackground && n > 4 && p.running[kindLong] == 0 && len(p.ready[kindLong]) > 0 {
		most = max(1, most-1) // a long call has its turn
	}
	others := p.running[kindHeavy] + p.running[kindBackground] + p.running[kindLong]
	return p.running[k] < most && others < max(1, n-2)
}

// next returns the calls that a slot executes next, and marks their shares as
// executing; nil if there is none. The lock is held.
func (p *Pool) next(s *slot) (batch []*task, k kind) {
	if p.takes(s, kindLight) {
		if batch = p.nextLight(); len(batch) > 0 {
			return batch, kindLight
		}
	}
	for k := kindUrgent; k < kinds; k++ {
		if len(p.ready[k]) == 0 || !p.mayRun(k) || !p.takes(s, k) {
			continue
		}
		class := classOf[k]
		if of := takeLeast(&p.ready[k], class); of != nil {
			t := of.waiting[class][0]
			p.remove(t)
			of.running[class] = true
			p.running[k]++
			return []*task{t}, k
		}
	}
	return nil, kindLight
}

// takeLeast takes the share that has used the least processor time out of a list.
func takeLeast(list *[]*share, class Class) *share {
	least := -1
	for i := 0; i < len(*list); i++ {
		s := (*list)[i]
		if len(s.waiting[class]) == 0 { // its calls were withdrawn
			s.listed[class] = false
			*list = slices.Delete(*list, i, i+1)
			i--
			continue
		}
		if least < 0 || s.used < (*list)[least].used {
			least = i
		}
	}
	if least < 0 {
		return nil
	}
	s := (*list)[least]
	*list = slices.Delete(*list, least, least+1)
	s.listed[class] = false
	return s
}

// single reports whether a call is sent alone: because it may end its worker, or
// because those behind it in a batch would wait for too long.
func (t *task) single() bool { return t.alone || t.Limit > batchLimit }

// nextLight takes calls of light shares in turn. Several are one batch where no
// other slot is idle.
func (p *Pool) nextLight() (batch []*task) {
	most := min(batchCalls, 1+len(p.ready[kindLight])/(1+len(p.idle)))
	bytes := 0
	var kept []*share // whose next call does not fit
	for len(p.ready[kindLight]) > 0 && len(batch) < most {
		s := p.ready[kindLight][0]
		p.ready[kindLight] = p.ready[kindLight][1:]
		if len(s.waiting[Interactive]) == 0 {
			s.listed[Interactive] = false
			continue
		}
		t := s.waiting[Interactive][0]
		if len(batch) > 0 && (t.single() || bytes+len(t.request) > batchBytes) {
			kept = append(kept, s)
			continue
		}
		p.remove(t)
		s.listed[Interactive], s.running[Interactive] = false, true
		batch, bytes = append(batch, t), bytes+len(t.request)+headerBytes
		if t.single() {
			break
		}
		// More of the same share, where no other waits.
		for len(p.ready[kindLight]) == 0 && len(kept) == 0 && len(s.waiting[Interactive]) > 0 && len(batch) < batchCalls {
			t := s.waiting[Interactive][0]
			if t.single() || bytes+len(t.request) > batchBytes {
				break
			}
			p.remove(t)
			batch, bytes = append(batch, t), bytes+len(t.request)+headerBytes
		}
	}
	p.ready[kindLight] = append(kept, p.ready[kindLight]...)
	return batch
}

// release marks the shares of a batch as no longer executing. The lock is held.
func (p *Pool) release(batch []*task, k kind) {
	for _, t := range batch {
		t.process = nil
		if t.share.running[t.Class] {
			t.share.running[t.Class] = false
			p.list(t.share, t.Class)
		}
	}
	if k != kindLight {
		p.running[k]--
	}
}

// normalSlots is how many slots are left at the normal priority, where there are more.
const normalSlots = 2

// isLow reports whether a kind of calls is executed at the lower priority.
func (k kind) isLow() bool { return k >= kindHeavy }

// isLow reports whether the slot's process has the lower priority. The lock is held.
func (s *slot) isLow() bool { return s.alive != nil && s.alive.low.Load() }

// takes reports whether the slot executes a kind of calls now. A slot of the lower
// priority leaves light and urgent calls to the others, as long as there are enough of
// them. The others leave the low kinds to a slot of the lower priority that is idle, and
// wake it. The lock is held.
func (p *Pool) takes(s *slot, k kind) bool {
	if s.isLow() == k.isLow() {
		return true
	}
	if !k.isLow() {
		normal := 0
		for _, other := range p.slots {
			if !other.isLow() {
				normal++
			}
		}
		return normal < max(1, min(normalSlots, len(p.slots)-1))
	}
	for i, other := range p.idle {
		if other.isLow() {
			p.wake(i)
			return false
		}
	}
	return true
}

// wakeOne wakes an idle slot for the next call: one that takes it, and of those the one
// that was used last. The lock is held.
func (p *Pool) wakeOne() {
	low := len(p.ready[kindLight]) == 0 && len(p.ready[kindUrgent]) == 0
	for _, fits := range []bool{true, false} {
		for i := len(p.idle) - 1; i >= 0; i-- {
			if (p.idle[i].isLow() == low) == fits {
				p.wake(i)
				return
			}
		}
	}
}

// wake wakes an idle slot by its index. The lock is held.
func (p *Pool) wake(i int) {
	s := p.idle[i]
	p.idle = slices.Delete(p.idle, i, i+1)
	s.wake <- struct{}{}
}

// lowered is called after an interactive call has made its process low. A call that the
// slot would have taken next needs another one.
func (p *Pool) lowered() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting > 0 {
		p.wakeOne()
	}
}
