package reader

import (
	"github.com/sallyport/sallyport/audit"
	auditpg "github.com/sallyport/sallyport/audit/postgres"
)

// cut takes away what a checkpoint of this size does not cover.
func (p *part) cut(size int64) {
	for i := range p.entries {
		if p.entries[i].Index >= size {
			p.entries = p.entries[:i]
			break
		}
	}
	for i := range p.statements {
		if p.statements[i].Size > size {
			p.statements = p.statements[:i]
			break
		}
	}
}

// give gives leaves, and each checkpoint after the last leaf that it covers.
func (p *part) deliver(sink Sink) {
	next := 0
	for i := range p.entries {
		for next < len(p.statements) && p.statements[next].Size <= p.entries[i].Index {
			sink.Checkpoint(p.statements[next])
			next++
		}
		sink.Sealed(&p.entries[i])
	}
	for ; next < len(p.statements); next++ {
		sink.Checkpoint(p.statements[next])
	}
}

// part is a piece of the log in memory. Its memory is used again.
type part struct {
	ready      chan struct{}
	unsealed   bool
	entries    []audit.Entry
	statements []audit.Statement
	arena      []byte
	cuts       []cut
	ranges     ranges
}

// cut is where the columns and the record of an entry are in the arena, which
// may move while it grows.
type cut struct {
	entry                  int
	columns, record, after int
}

func (p *part) reset() {
	p.unsealed = false
	p.ready = make(chan struct{})
	p.entries, p.statements, p.arena, p.cuts = p.entries[:0], p.statements[:0], p.arena[:0], p.cuts[:0]
	p.ranges.reset()
}

// appendEntry copies the columns and the record of an entry from the values of StoredColumns.
func (p *part) appendEntry(entry int, values [][]byte) {
	c := cut{entry: entry, columns: len(p.arena)}
	p.arena = auditpg.AppendColumns(p.arena, values[2:])
	c.record = len(p.arena)
	p.arena = auditpg.AppendRecordOf(p.arena, values[0], values[1], p.arena[c.columns:c.record])
	c.after = len(p.arena)
	p.cuts = append(p.cuts, c)
}

// settle gives the entries what was kept for them, and does what can be done
// beside others.
func (p *part) settle() {
	for _, c := range p.cuts {
		e := &p.entries[c.entry]
		e.Columns = p.arena[c.columns:c.record:c.record]
		e.Record = p.arena[c.record:c.after:c.after]
		e.Prepare()
	}
}

// ranges are the numbers of each writer in a window. A writer's leaves are in
// the order of its numbers and without gaps, so that in a sound log these are
// exactly the events of the window.
type ranges struct {
	of      map[string]int
	writers []string
	from    []int64
	to      []int64
	slots   []map[int64]int // number to entry, where the numbers do not follow
	entries [][]int
}

func (r *ranges) reset() {
	clear(r.of)
	r.writers, r.from, r.to, r.entries = r.writers[:0], r.from[:0], r.to[:0], r.entries[:0]
	r.slots = r.slots[:0]
}

func (r *ranges) add(writer string, sequence int64, entry int) {
	if r.of == nil {
		r.of = make(map[string]int)
	}
	i, known := r.of[writer]
	if !known {
		i = len(r.writers)
		r.of[writer] = i
		r.writers = append(r.writers, writer)
		r.from, r.to = append(r.from, sequence), append(r.to, sequence)
		r.entries = append(r.entries, []int{entry})
		r.slots = append(r.slots, nil)
		return
	}
	if r.slots[i] == nil && sequence == r.from[i]+int64(len(r.entries[i])) {
		r.entries[i] = append(r.entries[i], entry)
		r.to[i] = sequence
		return
	}
	if r.slots[i] == nil { // not as it should be: continue with a map
		r.slots[i] = make(map[int64]int)
		for n, e := range r.entries[i] {
			r.slots[i][r.from[i]+int64(n)] = e
		}
	}
	r.slots[i][sequence] = entry
	r.from[i], r.to[i] = min(r.from[i], sequence), max(r.to[i], sequence)
}

// find returns the entry of a number of the writer in this place.
func (r *ranges) find(place int, sequence int64) (entry int, ok bool) {
	if r.slots[place] != nil {
		entry, ok = r.slots[place][sequence]
		return entry, ok
	}
	n := sequence - r.from[place]
	if n < 0 || n >= int64(len(r.entries[place])) {
		return 0, false
	}
	return r.entries[place][n], true
}
