package evidence

import (
	"slices"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// walker takes the log as it goes by.
type walker struct {
	builder      *builder
	verification *audit.Verification
	lines        *output
	line         []byte
	writers      map[string]*Writer
	digests      *digest
	gaps         []Gap // between leaves
	explanations []explanation
	previous     predecessors
	late         *lateWalk
	hours        hourCounter
	err          error
}

// lasting are the kinds that a report needs from before its period and after.
var lasting = map[string]bool{
	string(audit.KindSigningKey): true, string(audit.KindPolicyLoaded): true, string(audit.KindPolicyApproval): true,
	string(audit.KindWriterStarted): true, string(audit.KindWriterEnded): true, string(audit.KindWriterLost): true,
	string(audit.KindEventsLost): true, string(audit.KindGapDeclared): true,
}

// following are the kinds that a report needs from after its period as well: what
// was found afterwards of deployments that began in it.
var following = map[string]bool{string(audit.KindReconciled): true, string(audit.KindDeploymentUnobserved): true}

// accessLead is how long before a period an attestation may be that shows the access
// at its beginning: every server makes one a day.
const accessLead = 48 * time.Hour

// dropInvalid leaves out the declarations that the verification does not accept:
// without a valid signature of the key that seals the log there, a declaration
// explains nothing.
func (w *walker) dropInvalid(r *audit.Report) {
	valid := make(map[int64]*audit.GapDeclaration, len(r.Gaps))
	for i := range r.Gaps {
		valid[r.Gaps[i].Index] = &r.Gaps[i]
	}
	w.explanations = slices.DeleteFunc(w.explanations, func(e explanation) bool {
		d := valid[e.leaf]
		return e.kind == string(audit.KindGapDeclared) && (d == nil || d.Writer != e.writer || d.First != e.first || d.Last != e.last)
	})
}

// Checkpoint takes a checkpoint of the log.
func (w *walker) Checkpoint(s audit.Statement) {
	w.verification.Checkpoint(s)
	w.late.checkpoint(s)
	w.hours.checkpoint(s)
}

// Sealed takes the next leaf.
func (w *walker) Sealed(e *audit.Entry) {
	w.verification.Sealed(e)
	hash := e.Hash
	if hash == (audit.Hash{}) && e.Record != nil {
		hash = audit.Leaf(e.Record)
	}
	w.builder.prover.add(e.Index, hash)
	at, kind := peek(e.Record)
	w.writer(e, at)
	if e.Record == nil || w.err != nil {
		return
	}
	f := &w.builder.facts
	inPeriod := f.Period.within(at)
	if inPeriod {
		f.Kinds[kind]++
		w.late.add(e, at, kind)
	}
	switch {
	case kind == string(audit.KindDecision):
		if inPeriod {
			w.decision(e, at)
		}
	case isClosing(kind):
		w.builder.spool.end(e.Index, momentOf(at), f.Period.From, e.Record)
	case inPeriod || lasting[kind] || (following[kind] || isReplayed(kind, e.Record)) && !momentOf(at).Before(f.Period.From),
		kind == string(audit.KindAccessAttested) && f.Period.leads(at, accessLead):
		w.event(e)
	}
}

func (w *walker) decision(e *audit.Entry, at string) {
	f := &w.builder.facts
	if len(f.Repositories) > 0 {
		s, err := read(e.Record)
		if err != nil || !chosenBy(f.Repositories, s) {
			return
		}
	}
	f.Selected++
	w.digests.add(e.Record)
	w.builder.spool.decision(e.Index, e.Writer, e.Sequence, momentOf(at), e.Record)
}

// event keeps an event for the report.
func (w *walker) event(e *audit.Entry) {
	b := w.builder
	w.line = appendPair(w.line[:0], &Pair{Leaf: e.Index, EndLeaf: -1, Record: e.Record})
	if _, err := w.lines.Write(w.line); err != nil {
		w.err = err
		return
	}
	b.events++
	s, err := read(e.Record)
	if err != nil {
		return // counted when it is replayed
	}
	w.notice(s, e.Index)
}

// notice keeps what events have of writers.
func (w *walker) notice(s *recordFields, leaf int64) {
	w.late.replayed(s, leaf)
	if one, ok := explanationOf(s, leaf); ok {
		w.explanations = append(w.explanations, one)
	}
	switch audit.Kind(s.Kind) {
	case audit.KindWriterStarted:
		w.previous.notice(s)
		if one := w.writers[s.Writer]; one != nil {
			one.Started, one.Version, one.Hostname = s.Time, s.Attributes["version"], s.Attributes["hostname"]
		}
	case audit.KindWriterEnded:
		if one := w.writers[s.Writer]; one != nil {
			one.Ended = s.Time
		}
	case audit.KindWriterLost:
		if one := w.writers[s.Attributes["writer"]]; one != nil {
			one.Lost = s.Time
		}
	}
}

func (w *walker) writer(e *audit.Entry, at string) {
	one := w.writers[e.Writer]
	if one == nil {
		one = &Writer{Name: e.Writer}
		w.writers[e.Writer] = one
	}
	one.Events++
	if e.Sequence > one.Number+1 {
		gap := Gap{Writer: e.Writer, First: one.Number + 1, Last: e.Sequence - 1, After: one.latest, Before: at, Sealed: true, Leaf: -1}
		one.Gaps = addSaturated(one.Gaps, gap.Numbers())
		if len(w.gaps) < maxRows {
			w.gaps = append(w.gaps, gap)
		}
	}
	if e.Sequence > one.Number {
		one.Number, one.latest = e.Sequence, at
	}
	if at == "" {
		return
	}
	if one.First == "" || at < one.First {
		one.First = at
	}
	if at > one.Last {
		one.Last = at
		if one.Lost != "" {
			one.Lost = "" // it was only cut off, and continued
		}
	}
}

func (w *walker) list() []Writer {
	var list []Writer
	p := w.builder.options.Period
	for _, name := range sorted(w.writers) {
		one := *w.writers[name]
		// One that was lost or ended before is not of this period, and retention
		// takes what is known of it.
		over := one.Ended != "" || one.Lost != "" || one.Name == audit.DatabaseWriter
		if over && momentOf(one.Last).Before(p.From) || !momentOf(one.First).Before(p.To) {
			continue
		}
		list = append(list, one)
	}
	return list
}
