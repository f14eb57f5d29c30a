package audit

import "fmt"

// compareAnchors compares the tree with the checkpoints from outside that have
// its size. Only a checkpoint that a known key signed can contradict the log: anybody may
// have written the others.
func (v *Verification) compareAnchors() {
	a := &v.anchors
	size := v.tree.Size()
	if a.next == len(a.list) || a.list[a.next].Size > size {
		return
	}
	root := v.tree.Root()
	for ; a.next < len(a.list) && a.list[a.next].Size <= size; a.next++ {
		one := &a.list[a.next]
		switch {
		case one.Size != size || v.broken >= 0: // its last leaf is not there, or the tree is worth nothing
		case one.Root == root:
			one.held = true
		case v.signedByKnown(one):
			v.treeChanged(size, anotherRoot(one))
		default:
			one.differs = true
		}
	}
}

func anotherRoot(a *anchor) string {
	return fmt.Sprintf("the checkpoint from outside of size %d has another root", a.Size)
}

func (v *Verification) signedByKnown(a *anchor) bool {
	_, _, err := OpenCheckpoint(a.signed, v.keys.known()...)
	return err == nil
}

// finishAnchors finds the largest valid checkpoint from outside that a known key
// signed. Smaller ones add nothing to it.
func (v *Verification) finishAnchors(r *Report) {
	size := v.tree.Size()
	w := &warnings{}
	short := false
	for i := range v.anchors.list {
		a := &v.anchors.list[i]
		switch {
		case !a.differs && a.Size <= size || short:
		case !v.signedByKnown(a):
			w.unknown(a)
		case a.differs: // a key signed it that was not known when the tree had its size
			v.findings.add(Finding{Damage: DamageTree, First: 0, Last: a.Size - 1, Detail: anotherRoot(a)})
		default:
			short = true
			v.findings.add(Finding{Damage: DamageShort, First: size, Last: a.Size - 1,
				Detail: fmt.Sprintf("the checkpoint from outside covers %d leaves, and the log has %d: its end was cut off, or it is an older backup", a.Size, size)})
		}
	}
	for i := len(v.anchors.list) - 1; i >= 0; i-- {
		if a := &v.anchors.list[i]; a.held {
			if v.signedByKnown(a) {
				r.Anchored = a.Checkpoint
				break
			}
			w.unknown(a)
		}
	}
	r.Warnings = w.list()
}

// maxWarnings is how many warnings are kept one by one.
const maxWarnings = 20

type warnings struct {
	kept []string
	more int
}

func (w *warnings) unknown(a *anchor) {
	if len(w.kept) == maxWarnings {
		w.more++
		return
	}
	w.kept = append(w.kept, fmt.Sprintf("%s: the checkpoint of size %d of %s is signed by no key that was given or that signed this log: it is not used", a.source, a.Size, Text(a.Origin, capName)))
}

func (w *warnings) list() []string {
	if w.more > 0 {
		return append(w.kept, fmt.Sprintf("%d more checkpoints from outside are signed by no known key", w.more))
	}
	return w.kept
}
