package audit

import "time"

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

// ShowsKey reports whether an event that was read so far shows that the process of a
// writer has a key of the log. Any login that may record can be another writer.
func (v *Verification) ShowsKey(writer string) bool {
	w := v.writers[writer]
	return w != nil && v.keys.signedLog(w.signedBy)
}

// Size is how many leaves have gone by.
func (v *Verification) Size() int64 { return v.tree.Size() }

// Covered is the latest checkpoint whose root the leaves have.
func (v *Verification) Covered() Checkpoint { return v.covered }

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

// treeChanged notes that the leaves up to size are not those that were sealed.
// Where that is known already, it follows.
func (v *Verification) treeChanged(size int64, detail string) {
	if v.broken >= 0 {
		return
	}
	v.breakTree()
	v.findings.add(Finding{Damage: DamageTree, First: v.broken, Last: size - 1, Detail: detail})
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

// Incomplete notes that a source ended before its end.
func (v *Verification) Incomplete(detail string) {
	v.findings.add(Finding{Damage: DamageExport, First: -1, Last: -1, Detail: detail})
}

const notThere = "the event is not there"
