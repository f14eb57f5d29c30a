package audit

import (
	"fmt"
	"time"
)

// A Statement is a checkpoint with the columns beside it. Zero columns: the
// source has none.
type Statement struct {
	Note     []byte
	Size     int64
	Root     []byte
	Frontier []byte
	Time     time.Time
}

// Checkpoint accepts a checkpoint of the log.
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
		return fmt.Sprintf("the column size is %d, and the signed checkpoint has %d", s.Size, c.Size)
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
