package audit

import "fmt"

// Sealed verifies the next leaf. Damage becomes a finding of the report.
func (v *Verification) Sealed(e *Entry) {
	if gap := e.Index - v.tree.Size(); gap != 0 {
		v.findings.add(Finding{Damage: DamageLeaf, First: v.tree.Size(), Last: max(e.Index-1, v.tree.Size()), Detail: "the leaves are missing"})
		v.restart(e.Index)
	}
	hash := e.Hash
	intact := false
	e.Prepare()
	if e.Record != nil {
		if hash == (Hash{}) {
			hash = e.of
		}
		if intact = hash == e.of; !intact {
			v.found(DamageRecord, e, "the record is not the one that was sealed")
		}
	} else if !v.expiry.missing(e) {
		v.found(DamageMissing, e, notThere)
	}
	v.checkSequence(e)
	if e.Record != nil {
		v.checkColumns(e)
		v.readRecord(e, intact)
	}
	if e.Copies > 0 {
		v.found(DamageInserted, e, fmt.Sprintf("%d more rows have this number", e.Copies))
	}
	v.tree.Append(hash)
	v.compareAnchors()
}

// checkSequence checks that the leaf has the next sequence number of its writer, or the next
// one after a declared gap.
func (v *Verification) checkSequence(e *Entry) {
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
		v.found(DamageOrder, e, fmt.Sprintf("the next number of the writer is %d", w.sequence+1))
	}
	if d, declared := v.gaps.names(e.Writer, e.Sequence); declared {
		v.found(DamageGap, e, fmt.Sprintf("the event is there, and leaf %d declares it missing", d.Index))
	}
	w.sequence = max(w.sequence, e.Sequence)
	w.sealed = w.sequence
	w.events++
}

// checkColumns adds a finding if the columns of the event differ from its record.
func (v *Verification) checkColumns(e *Entry) {
	if e.difference != "" {
		v.found(DamageColumn, e, e.difference)
	}
}
