package audit

import "fmt"

// Unsealed accepts an event that no leaf covers.
func (v *Verification) Unsealed(e *Entry) {
	v.unsealed++
	if e.Writer == "" {
		e.Writer, e.Sequence, _ = numberOf(e.Record)
	}
	w := v.writer(e.Writer)
	if damage, detail := v.unsealedNumber(e, w); damage != "" {
		v.foundUnsealed(damage, e, detail)
	}
	if lost, ok := LostRangeOf(e.Record); ok {
		lost.Index, lost.Signed = -1, v.keys.signedLog(w.signedBy)
		v.gaps.report(lost)
	}
	if e.Prepare(); e.difference != "" {
		v.foundUnsealed(DamageColumn, e, e.difference)
	}
	w.sequence = max(w.sequence, e.Sequence)
	if kindOf(e.Record) == KindWriterEnded {
		w.ended = true
	}
	at := timeOf(e.Record)
	if at.IsZero() {
		return
	}
	v.lateness.Unsealed(e.Writer, e.Sequence, at, v.covered.Time)
	if v.oldest.IsZero() || at.Before(v.oldest) {
		v.oldest = at
	}
}

// unsealedNumber checks the number of an event that is not sealed; no damage: it is the
// next of its writer, or follows missing numbers that are accounted for.
func (v *Verification) unsealedNumber(e *Entry, w *writerState) (damage Damage, detail string) {
	d, declared := v.gaps.names(e.Writer, e.Sequence)
	switch {
	case declared:
		return DamageGap, fmt.Sprintf("the event is there, and leaf %d declares it missing", d.Index)
	case e.Sequence <= w.sealed || e.Sequence < 1:
		return DamageInserted, "the event has a number that was given to another, or to none"
	case e.Sequence == w.sequence:
		return DamageInserted, "another row bears this number"
	case w.ended:
		return DamageInserted, "the event follows the end of its writer"
	case e.Sequence != w.sequence+1 && !w.gap && !v.gaps.stepsOver(e.Writer, w.sequence+1, e.Sequence-1):
		w.gap = true
		return DamageMissing, fmt.Sprintf("the next number of the writer is %d; nothing from here on is sealed until `sallyport audit gap declare` accounts for the missing ones", w.sequence+1)
	}
	return "", ""
}

func (v *Verification) foundUnsealed(damage Damage, e *Entry, detail string) {
	v.findings.add(Finding{Damage: damage, First: -1, Last: -1, Writer: e.Writer, Sequence: e.Sequence, Detail: detail})
}
