package audit

import (
	"fmt"
	"time"
)

// An Entry is what a source has of one event.
type Entry struct {
	// Index is the leaf's place in the tree; for an event that is not sealed it
	// means nothing.
	Index int64
	// Writer and Sequence are those of the leaf, or of the row that is not
	// sealed. An empty writer: the source knows only what the record says.
	Writer   string
	Sequence int64
	// Hash is what the leaf says. Zero: the source keeps the record in its place.
	Hash Hash
	// Record is the event. Nil: it is not there.
	Record []byte
	// Columns is what the columns say, as the record would: a JSON object with
	// the record's fields in its order, without version, attributes and input.
	// Nil: the source has no columns.
	Columns []byte
	// Copies counts further rows under the same number.
	Copies int

	prepared   bool // of and difference are those of the record and the columns
	of         Hash
	difference string
}

// Prepare does the part of a verification that depends on this entry alone, so
// that it can be done beside others. It need not be called, and nothing of the
// entry may be changed after it.
func (e *Entry) Prepare() {
	if e.prepared || e.Record == nil {
		return
	}
	e.prepared = true
	e.of = Leaf(e.Record)
	if e.Columns != nil {
		e.difference = compareColumns(e.Record, e.Columns)
	}
}

// leaf is the hash of the record.
func (e *Entry) leaf() Hash {
	if e.prepared {
		return e.of
	}
	return Leaf(e.Record)
}

// A Statement is a checkpoint with the columns beside it. Zero columns: the
// source has none.
type Statement struct {
	Note     []byte
	Size     int64
	Root     []byte
	Frontier []byte
	Time     time.Time
}

// A Verification reads a log once, in its order, and finds what was done to it.
// It is made of pure functions: the same calls give the same report. It keeps
// the frontier of the tree and a few words for each writer, no matter how long the
// log is. It is not safe for concurrent use.
//
// The order of calls: [Verification.Sealed] for each leaf from 0 on, and
// [Verification.Checkpoint] after the last leaf that it covers; then
// [Verification.Unsealed] for each event without a leaf, a writer's events in
// the order of their numbers; then [Verification.Report], once.
type Verification struct {
	anchors  anchors
	tree     Tree
	writers  map[string]*writerState
	latest   *writerState
	keys     chain
	expiry   expiry
	gaps     gaps
	lateness *LatenessTracker
	cadence  *CadenceTracker
	findings findings

	checkpoints, unsealed, broken int64
	covered                       Checkpoint // the latest that held
	first, last, oldest           time.Time
}

type writerState struct {
	name     string
	sequence int64 // of its latest event
	sealed   int64
	events   int64 // that are sealed
	signedBy Key   // the key that signed the name, in an event of the writer
	started  bool  // it recorded its start
	ended    bool
	gap      bool // has been found
}

// NewVerification begins a verification. What is trusted must be well formed.
func NewVerification(trust Trust) (*Verification, error) {
	v := &Verification{writers: make(map[string]*writerState), broken: -1, lateness: NewLatenessTracker(trust.MaxLateness), cadence: NewCadenceTracker(trust.MaxSilence)}
	for _, k := range trust.Keys {
		if err := k.Check(); err != nil {
			return nil, err
		}
	}
	var err error
	if v.anchors, err = newAnchors(trust); err != nil {
		return nil, err
	}
	v.keys.given = trust.Keys
	return v, nil
}

// Size is how many leaves have gone by.
func (v *Verification) Size() int64 { return v.tree.Size() }

// Covered is the latest checkpoint whose root the leaves have.
func (v *Verification) Covered() Checkpoint { return v.covered }

const notThere = "the event is not there"

// Sealed takes the next leaf.
func (v *Verification) Sealed(e *Entry) {
	if gap := e.Index - v.tree.Size(); gap != 0 {
		v.findings.add(Finding{Damage: DamageLeaf, First: v.tree.Size(), Last: max(e.Index-1, v.tree.Size()), Detail: "the leaves are not there"})
		v.restart(e.Index)
	}
	hash := e.Hash
	whole := false
	e.Prepare()
	if e.Record != nil {
		if hash == (Hash{}) {
			hash = e.of
		}
		if whole = hash == e.of; !whole {
			v.found(DamageRecord, e, "the record is not the one that was sealed")
		}
	} else if !v.expiry.missing(e) {
		v.found(DamageMissing, e, notThere)
	}
	v.number(e)
	if e.Record != nil {
		v.columns(e)
		v.notice(e, whole)
	}
	if e.Copies > 0 {
		v.found(DamageInserted, e, fmt.Sprintf("%d more rows bear this number", e.Copies))
	}
	v.tree.Append(hash)
	v.compareAnchors()
}

// restart continues behind leaves that are not there. The tree is worth nothing
// from here on.
func (v *Verification) restart(size int64) {
	v.breakTree()
	v.tree = Tree{}
	if size > 0 {
		v.tree.size = size
		for n := uint64(size); n > 0; n &= n - 1 {
			v.tree.frontier = append(v.tree.frontier, Hash{})
		}
	}
}

func (v *Verification) breakTree() {
	if v.broken < 0 {
		v.broken = v.covered.Size
	}
}

func (v *Verification) found(d Damage, e *Entry, detail string) {
	v.findings.add(Finding{Damage: d, First: e.Index, Last: e.Index, Writer: e.Writer, Sequence: e.Sequence, Detail: detail})
}

// number checks that the leaf is the next of its writer.
func (v *Verification) number(e *Entry) {
	if e.Writer == "" && e.Record != nil {
		var ok bool
		if e.Writer, e.Sequence, ok = numberOf(e.Record); !ok {
			v.found(DamageOrder, e, "the record names no writer and number")
			return
		}
	}
	w := v.writer(e.Writer)
	if e.Sequence > w.sequence+1 && v.gaps.stepsOver(e.Writer, w.sequence+1, e.Sequence-1) {
		v.gaps.skipped += e.Sequence - w.sequence - 1
	} else if e.Sequence != w.sequence+1 {
		v.found(DamageOrder, e, fmt.Sprintf("number %d of the writer was to follow", w.sequence+1))
	}
	if d, declared := v.gaps.names(e.Writer, e.Sequence); declared {
		v.found(DamageGap, e, fmt.Sprintf("the event is there, and leaf %d declares it missing", d.Index))
	}
	w.sequence = max(w.sequence, e.Sequence)
	w.sealed = w.sequence
	w.events++
}

func (v *Verification) writer(name string) *writerState {
	if v.latest != nil && v.latest.name == name {
		return v.latest
	}
	w := v.writers[name]
	if w == nil {
		w = &writerState{name: name}
		v.writers[name] = w
	}
	v.latest = w
	return w
}

func (v *Verification) columns(e *Entry) {
	if e.difference != "" {
		v.found(DamageColumn, e, e.difference)
	}
}

// notice reads the few events that say something about the log itself.
func (v *Verification) notice(e *Entry, whole bool) {
	kind := kindOf(e.Record)
	if !whole || Stays(kind, e.Writer) { // what was changed is found as that
		v.expiry.there(e.Index)
	}
	switch kind {
	case KindWriterStarted:
		v.noticeStart(e, kind, whole)
	case KindWriterEnded:
		v.writer(e.Writer).ended = true
	case KindAdmin:
		if whole {
			v.lateness.admin(e)
		}
	case KindSigningKey:
		v.noticeStart(e, kind, whole)
		if r, ok := RegistrationOf(e.Record); ok && whole {
			v.keys.register(r, e.Index)
		}
	case KindGapDeclared:
		if whole && e.Writer == DatabaseWriter {
			v.gaps.declare(e.Record, e.Index, func(writer string) int64 {
				if w := v.writers[writer]; w != nil {
					return w.sealed
				}
				return 0
			})
		}
	case KindEventsLost:
		if lost, ok := LostRangeOf(e.Record); ok && whole {
			lost.Index, lost.Signed = e.Index, v.keys.signedLog(v.writer(e.Writer).signedBy)
			v.gaps.report(lost)
		}
	case KindRetention:
		if whole && e.Writer == DatabaseWriter {
			v.expiry.retention(e.Record, e.Index)
		}
	case KindHoldSet, KindHoldLifted:
		if whole && e.Writer == DatabaseWriter {
			v.expiry.hold(kind, e.Sequence, e.Record)
		}
	}
	if at := timeOf(e.Record); !at.IsZero() {
		v.lateness.Add(e.Index, e.Writer, e.Sequence, at, kind == KindDecision)
		if v.first.IsZero() || at.Before(v.first) {
			v.first = at
		}
		if at.After(v.last) {
			v.last = at
		}
	}
}

// noticeStart keeps which key signed the name of the writer.
func (v *Verification) noticeStart(e *Entry, kind Kind, whole bool) {
	w := v.writer(e.Writer)
	w.started = w.started || kind == KindWriterStarted
	if k, ok := writerKeyOf(kind, e.Record); ok && whole && (w.signedBy == "" || !v.keys.signedLog(w.signedBy)) {
		w.signedBy = k
	}
}

// treeChanged notes that the leaves up to size are not those that were sealed.
// Where that is known already, it follows.
func (v *Verification) treeChanged(size int64, detail string) {
	if v.broken >= 0 {
		return
	}
	v.breakTree()
	v.findings.add(Finding{Damage: DamageTree, First: v.broken, Last: size - 1, Detail: detail})
}

// Checkpoint takes a checkpoint of the log.
func (v *Verification) Checkpoint(s Statement) {
	v.checkpoints++
	c, err := ReadCheckpoint(s.Note)
	place := Finding{Damage: DamageCheckpoint, First: max(s.Size, c.Size) - 1, Last: max(s.Size, c.Size) - 1}
	if err != nil {
		place.Detail = err.Error()
		v.findings.add(place)
		return
	}
	if detail := s.disagrees(c); detail != "" {
		place.Detail = detail
		v.findings.add(place)
		return
	}
	if c.Size > v.tree.Size() {
		v.findings.add(Finding{Damage: DamageLeaf, First: v.tree.Size(), Last: c.Size - 1, Detail: "a checkpoint of the log covers leaves that are not there"})
		v.restart(c.Size)
		return
	}
	if c.Size < v.tree.Size() { // a source that keeps the order makes none of these
		place.Detail = "it comes after leaves that it does not cover"
		v.findings.add(place)
		return
	}
	holds := v.broken < 0 && c.Root == v.tree.Root()
	damage, detail := v.keys.accept(s.Note, c, holds)
	if damage != "" {
		place.Damage, place.Detail = damage, detail
		v.findings.add(place)
	}
	if !holds {
		v.treeChanged(c.Size, fmt.Sprintf("the checkpoint of size %d has another root", c.Size))
		return
	}
	v.covered = c
	if damage == "" {
		v.lateness.Checkpoint(c.Size, c.Time)
		v.cadence.Checkpoint(c.Size, c.Time)
		v.expiry.checkpoint(c)
		v.gaps.checkpoint(s.Note)
	}
}

// disagrees compares the columns with what was signed.
func (s Statement) disagrees(c Checkpoint) string {
	switch {
	case s.Size != 0 && s.Size != c.Size:
		return fmt.Sprintf("the column size says %d, the signed checkpoint %d", s.Size, c.Size)
	case s.Root != nil && string(s.Root) != string(c.Root[:]):
		return "the column root is not the root that was signed"
	case !s.Time.IsZero() && !s.Time.Truncate(time.Second).Equal(c.Time):
		return "the column time is not the time that was signed"
	case s.Frontier != nil:
		frontier, err := RestoreTree(c.Size, s.Frontier)
		if err != nil || frontier.Root() != c.Root {
			return "the column frontier does not have the root that was signed"
		}
	}
	return ""
}

// Unsealed takes an event that no leaf covers.
func (v *Verification) Unsealed(e *Entry) {
	v.unsealed++
	place := Finding{Damage: DamageInserted, First: -1, Last: -1}
	if e.Writer == "" {
		e.Writer, e.Sequence, _ = numberOf(e.Record)
	}
	place.Writer, place.Sequence = e.Writer, e.Sequence
	w := v.writer(e.Writer)
	at := timeOf(e.Record)
	d, declared := v.gaps.names(e.Writer, e.Sequence)
	switch {
	case declared:
		place.Damage, place.Detail = DamageGap, fmt.Sprintf("the event is there, and leaf %d declares it missing", d.Index)
	case e.Sequence <= w.sealed || e.Sequence < 1:
		place.Detail = "the event has a number that was given to another, or to none"
	case e.Sequence == w.sequence:
		place.Detail = "another row bears this number"
	case w.ended:
		place.Detail = "the event follows the end of its writer"
	case e.Sequence != w.sequence+1 && !w.gap && !v.gaps.stepsOver(e.Writer, w.sequence+1, e.Sequence-1):
		w.gap = true
		place.Damage = DamageMissing
		place.Detail = fmt.Sprintf("number %d of the writer was to follow; nothing from here on is sealed until `sallyport audit gap declare` accounts for the missing ones", w.sequence+1)
	default:
		place.Damage = ""
	}
	if place.Damage != "" {
		v.findings.add(place)
	}
	if lost, ok := LostRangeOf(e.Record); ok {
		lost.Index, lost.Signed = -1, v.keys.signedLog(w.signedBy)
		v.gaps.report(lost)
	}
	if e.Prepare(); e.difference != "" {
		place.Damage, place.Detail = DamageColumn, e.difference
		v.findings.add(place)
	}
	w.sequence = max(w.sequence, e.Sequence)
	if kindOf(e.Record) == KindWriterEnded {
		w.ended = true
	}
	if !at.IsZero() {
		v.lateness.Unsealed(e.Writer, e.Sequence, at, v.covered.Time)
	}
	if !at.IsZero() && (v.oldest.IsZero() || at.Before(v.oldest)) {
		v.oldest = at
	}
}

// Incomplete notes that a source ended before its end.
func (v *Verification) Incomplete(detail string) {
	v.findings.add(Finding{Damage: DamageExport, First: -1, Last: -1, Detail: detail})
}
