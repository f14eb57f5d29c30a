package audit

import (
	"fmt"
	"strings"
)

// Damage is what is wrong with a log: a closed vocabulary.
type Damage string

// What a verification finds.
const (
	DamageRecord     Damage = "record_changed"     // a sealed event has another record than was sealed
	DamageColumn     Damage = "column_changed"     // a column differs from the record
	DamageMissing    Damage = "event_missing"      // a sealed event is not there
	DamageInserted   Damage = "event_inserted"     // an event that the log has no place for
	DamageOrder      Damage = "order_changed"      // the numbers of a writer do not follow one another
	DamageLeaf       Damage = "leaf_missing"       // a leaf is not there, or no checkpoint covers it
	DamageTree       Damage = "tree_changed"       // the leaves do not have the root of a checkpoint
	DamageCheckpoint Damage = "checkpoint_changed" // a checkpoint is not what was signed
	DamageKey        Damage = "key_unknown"        // a checkpoint is signed by a key that no hand-over names
	DamageShort      Damage = "log_truncated"      // a checkpoint from outside covers more than there is
	DamageUnvouched  Damage = "key_mismatch"       // no key from outside signed a checkpoint of the log
	DamageGap        Damage = "gap_invalid"        // a declaration of missing events that does not hold, or names events that are there
	DamageRetention  Damage = "retention_invalid"  // an event reports a retention that is not allowed
	// Tables beside the events that evidence relies on.
	DamagePolicy         Damage = "policy_changed"         // a policy's content does not have its digest, or is missing
	DamageReconciliation Damage = "reconciliation_changed" // what a reconciliation found does not have the digest in its event
	DamageExpired        Damage = "expired_changed"        // the count of expired events differs from the retention's event
	DamageExport         Damage = "export_incomplete"      // the export has no end, or not the one that it announces
)

// A Finding is damage at a place, or at several in a row.
type Finding struct {
	Damage      Damage
	First, Last int64 // leaves; -1: it has no place in the tree
	Writer      string
	Sequence    int64 // of the first
	Detail      string
}

// String is one line for people.
func (f Finding) String() string {
	var b strings.Builder
	b.WriteString(string(f.Damage))
	switch {
	case f.First >= 0 && f.First == f.Last:
		fmt.Fprintf(&b, " at leaf %d", f.First)
	case f.First >= 0:
		fmt.Fprintf(&b, " at leaves %d to %d", f.First, f.Last)
	}
	if f.Writer != "" {
		fmt.Fprintf(&b, " (event %d of writer %s)", f.Sequence, Text(f.Writer, capName))
	}
	if f.Detail != "" {
		b.WriteString(": " + f.Detail)
	}
	return b.String()
}

// maxFindings is how many findings are kept. All are counted.
const maxFindings = 100

// findings collects damage; neighbors of one kind become one.
type findings struct {
	list   []Finding
	counts map[Damage]int64
}

func (f *findings) add(found Finding) {
	if f.counts == nil {
		f.counts = make(map[Damage]int64)
	}
	f.counts[found.Damage] += max(found.Last-found.First+1, 1)
	if n := len(f.list); n > 0 && found.First >= 0 {
		last := &f.list[n-1]
		mergeable := found.Damage == DamageMissing || found.Damage == DamageRecord
		if mergeable && last.Damage == found.Damage && last.Last+1 == found.First {
			last.Last = found.Last
			return
		}
	}
	if len(f.list) < maxFindings {
		f.list = append(f.list, found)
	}
}

// join adds what another has collected.
func (f *findings) join(other findings) {
	for damage, n := range other.counts {
		if f.counts == nil {
			f.counts = make(map[Damage]int64)
		}
		f.counts[damage] += n
	}
	f.list = append(f.list, other.list...)
}
