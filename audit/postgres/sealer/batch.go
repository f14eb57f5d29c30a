package sealer

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/sallyport/sallyport/audit"
)

// batch is what is sealed by one checkpoint, and what cannot be sealed.
type batch struct {
	leaves   []leaf
	more     bool
	rest     bool     // further writers are to be surveyed
	findings []string // writers that cannot be sealed any further
	blocked  int64    // about how many events of theirs wait behind that
}

type leaf struct {
	writer   string
	sequence int64
	kind     audit.Kind
	hash     audit.Hash
}

// ranges are what audit.add_checkpoint takes: of each writer the first and the
// last number, in the order of the leaves.
func (b *batch) ranges() (writers []string, first, last []int64) {
	for _, l := range b.leaves {
		if n := len(writers) - 1; n >= 0 && writers[n] == l.writer && last[n]+1 == l.sequence {
			last[n]++
			continue
		}
		writers, first, last = append(writers, l.writer), append(first, l.sequence), append(last, l.sequence)
	}
	return writers, first, last
}

// maxBlockedFindings bounds the findings of one survey. The number of those
// beyond it is the last finding.
const maxBlockedFindings = 100

// survey is which of the writers of a step have events to seal.
type survey struct {
	ready    []pending // their next number is there
	declared steppedOver
	rest     bool // further writers are to be surveyed
}

// pending is a writer and what of it waits to be sealed.
type pending struct {
	writer string
	sealed int64 // the number of its last sealed event
	last   int64 // its highest number
	share  int64 // how many of its events the next batch may take
	live   bool
}

// shares divides a batch. Live writers have half of it, or more where the others
// need less, so that no number of other names keeps a live writer's events waiting.
func shares(ready []pending, batch, rotation int) []pending {
	var live, others []pending
	need := int64(0)
	for _, p := range ready {
		if p.live {
			live = append(live, p)
		} else {
			others = append(others, p)
			need += p.last - p.sealed
		}
	}
	divided := divide(live, batch-int(min(need, int64(batch/2))), rotation)
	left := batch
	for _, p := range divided {
		left -= int(p.share)
	}
	return append(divided, divide(others, left, rotation)...)
}

// divide gives each writer an equal share of a batch, and divides what a writer does
// not need of its share among the others. Where there are more writers than leaves,
// turn selects which of them are first.
func divide(ready []pending, batch, rotation int) []pending {
	if len(ready) > batch {
		rotated := make([]pending, 0, batch)
		for i := range batch {
			rotated = append(rotated, ready[(rotation+i)%len(ready)])
		}
		ready = rotated
	}
	bySize := make([]*pending, len(ready))
	for i := range ready {
		bySize[i] = &ready[i]
	}
	slices.SortFunc(bySize, func(a, b *pending) int { return cmp.Compare(a.last-a.sealed, b.last-b.sealed) })
	left := int64(batch)
	for i, p := range bySize {
		p.share = min(p.last-p.sealed, left/int64(len(bySize)-i))
		left -= p.share
	}
	return ready
}

// run is how far a writer's events have been taken.
type run struct {
	next, end, last int64  // the next number, the last of the share, the writer's highest
	stopped         bool   // no further
	finding         string // why it cannot be sealed any further; empty: it can
	blocked         int64  // about how many of its events wait
}

// add adds an event of a writer to the batch, and reports whether it did.
func (b *batch) add(r *run, l leaf) bool {
	switch {
	case r.stopped:
		return false
	case l.sequence != r.next:
		r.stopped, r.finding = true, gapOf(l, r.next)
		if l.sequence < r.next { // it is there twice: neither is sealed
			r.next--
			b.leaves = slices.DeleteFunc(b.leaves, func(o leaf) bool { return o.writer == l.writer && o.sequence == l.sequence })
		}
		r.blocked = r.last - r.next + 1
		return false
	case l.sequence > r.end:
		r.stopped, b.more = true, true
		return false
	}
	r.next++
	b.leaves = append(b.leaves, l)
	b.more = b.more || l.kind == audit.KindGapDeclared // what follows the gap is next
	return true
}

// gapOf describes what is wrong with the event that follows, where want was to.
func gapOf(l leaf, want int64) string {
	if l.sequence < want {
		return fmt.Sprintf("writer %s has the number %d twice", audit.Text(l.writer, 64), l.sequence)
	}
	return fmt.Sprintf("writer %s has no number %d, and continues with %d", audit.Text(l.writer, 64), want, l.sequence)
}

// steppedOver are the numbers that sealing steps over, by writer: those that a
// declaration accounts for which is sealed and signed by the key that sealed it.
type steppedOver map[string][]audit.GapDeclaration

// steps reports whether all numbers from first to last of a writer may be
// stepped over.
func (o steppedOver) steps(writer string, first, last int64) bool {
	for first <= last {
		i := slices.IndexFunc(o[writer], func(d audit.GapDeclaration) bool { return d.First <= first && first <= d.Last })
		if i < 0 {
			return false
		}
		first = o[writer][i].Last + 1
	}
	return true
}
