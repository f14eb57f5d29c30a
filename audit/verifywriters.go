package audit

import (
	"cmp"
	"slices"
)

// maxUnsigned bounds the unsigned writers that a report lists. A login that may record
// makes any number of them.
const maxUnsigned = 100

// finishWriters counts the writers, and lists those without a signature: the ones with
// the most events.
func (v *Verification) finishWriters(r *Report) {
	for _, w := range v.writers {
		if w.sealed == 0 {
			continue
		}
		r.Writers++
		if w.name == DatabaseWriter {
			continue
		}
		if !w.ended {
			r.Unended++
		}
		if v.keys.signedLog(w.signedBy) {
			r.SignedWriters++
			continue
		}
		r.UnsignedWriters++
		one := UnsignedWriter{Writer: w.name, Events: w.events, Started: w.started}
		i, _ := slices.BinarySearchFunc(r.Unsigned, one, compareUnsigned)
		if i < maxUnsigned {
			r.Unsigned = slices.Insert(r.Unsigned, i, one)
			r.Unsigned = r.Unsigned[:min(len(r.Unsigned), maxUnsigned)]
		}
	}
}

// compareUnsigned puts the writer with more events first.
func compareUnsigned(a, b UnsignedWriter) int {
	return cmp.Or(cmp.Compare(b.Events, a.Events), cmp.Compare(a.Writer, b.Writer))
}
