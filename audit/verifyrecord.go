package audit

// readRecord reads the events that report on the log itself. whole: the record is the one
// that was sealed; a changed record is a finding of its own.
func (v *Verification) readRecord(e *Entry, whole bool) {
	kind := kindOf(e.Record)
	if !whole || Stays(kind, e.Writer) {
		v.expiry.there(e.Index)
	}
	switch kind {
	case KindWriterStarted:
		v.readStart(e, kind, whole)
	case KindWriterEnded:
		v.writer(e.Writer).ended = true
	case KindSigningKey:
		v.readStart(e, kind, whole)
	}
	if whole {
		v.readReport(e, kind)
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

// readReport reads an event that was sealed as it is.
func (v *Verification) readReport(e *Entry, kind Kind) {
	switch kind {
	case KindAdmin:
		v.lateness.admin(e)
	case KindSigningKey:
		if r, ok := RegistrationOf(e.Record); ok {
			v.keys.register(r, e.Index)
		}
	case KindEventsLost:
		if lost, ok := LostRangeOf(e.Record); ok {
			lost.Index, lost.Signed = e.Index, v.keys.signedLog(v.writer(e.Writer).signedBy)
			v.gaps.report(lost)
		}
	}
	if e.Writer == DatabaseWriter {
		v.readDatabase(e, kind)
	}
}

// readDatabase reads an event of the database's own functions.
func (v *Verification) readDatabase(e *Entry, kind Kind) {
	switch kind {
	case KindGapDeclared:
		v.gaps.declare(e.Record, e.Index, func(writer string) int64 {
			if w := v.writers[writer]; w != nil {
				return w.sealed
			}
			return 0
		})
	case KindRetention:
		v.expiry.retention(e.Record, e.Index)
	case KindHoldSet, KindHoldLifted:
		v.expiry.hold(kind, e.Sequence, e.Record)
	}
}

// readStart keeps which key signed the name of the writer.
func (v *Verification) readStart(e *Entry, kind Kind, whole bool) {
	w := v.writer(e.Writer)
	w.started = w.started || kind == KindWriterStarted
	if k, ok := writerKeyOf(kind, e.Record); ok && whole && (w.signedBy == "" || !v.keys.signedLog(w.signedBy)) {
		w.signedBy = k
	}
}
