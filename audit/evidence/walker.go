package evidence

import (
	"slices"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
	"github.com/sallyport/sallyport/audit/evidence/report"
	"github.com/sallyport/sallyport/audit/recorded"
)

// walker takes the log as it goes by.
type walker struct {
	builder      *builder
	verification *audit.Verification
	lines        *output
	line         []byte
	writers      map[string]*pack.Writer
	latest       map[string]string // by writer: the time of the event with its last number
	digests      *pack.SetDigest
	gaps         []pack.Gap // between leaves
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
	at, kind := recorded.Peek(e.Record)
	w.writer(e, at)
	if e.Record == nil || w.err != nil {
		return
	}
	f := &w.builder.facts
	inPeriod := f.Period.Contains(at)
	if inPeriod {
		f.Kinds[kind]++
		w.late.add(e, at, kind)
	}
	switch {
	case kind == string(audit.KindDecision):
		if inPeriod {
			w.decision(e, at)
		}
	case recorded.IsClosing(kind):
		w.builder.spool.end(e.Index, pack.ParseTime(at), f.Period.From, e.Record)
	case inPeriod || lasting[kind] || (following[kind] || isReplayed(kind, e.Record)) && !pack.ParseTime(at).Before(f.Period.From),
		kind == string(audit.KindAccessAttested) && f.Period.Leads(at, report.AccessLead):
		w.event(e)
	}
}

func (w *walker) decision(e *audit.Entry, at string) {
	f := &w.builder.facts
	if len(f.Repositories) > 0 {
		s, err := recorded.Read(e.Record)
		if err != nil || !pack.IsSelected(f.Repositories, s) {
			return
		}
	}
	f.Selected++
	w.digests.Add(e.Record)
	w.builder.spool.decision(e.Index, e.Writer, e.Sequence, pack.ParseTime(at), e.Record)
}

// event keeps an event for the report.
func (w *walker) event(e *audit.Entry) {
	b := w.builder
	w.line = pack.AppendPair(w.line[:0], &pack.Pair{Leaf: e.Index, EndLeaf: -1, Record: e.Record})
	if _, err := w.lines.Write(w.line); err != nil {
		w.err = err
		return
	}
	b.events++
	s, err := recorded.Read(e.Record)
	if err != nil {
		return // counted when it is replayed
	}
	w.notice(s, e.Index)
}

// notice keeps what events have of writers.
func (w *walker) notice(s *recorded.Event, leaf int64) {
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
		one = &pack.Writer{Name: e.Writer}
		w.writers[e.Writer] = one
	}
	one.Events++
	if e.Sequence > one.Number+1 {
		gap := pack.Gap{Writer: e.Writer, First: one.Number + 1, Last: e.Sequence - 1, After: w.latest[e.Writer], Before: at, Sealed: true, Leaf: -1}
		one.Gaps = pack.AddSaturated(one.Gaps, gap.Numbers())
		if len(w.gaps) < pack.MaxRows {
			w.gaps = append(w.gaps, gap)
		}
	}
	if e.Sequence > one.Number {
		one.Number, w.latest[e.Writer] = e.Sequence, at
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

func (w *walker) list() []pack.Writer {
	var list []pack.Writer
	p := w.builder.options.Period
	for _, name := range report.Sorted(w.writers) {
		one := *w.writers[name]
		// One that was lost or ended before is not of this period, and retention
		// takes what is known of it.
		over := one.Ended != "" || one.Lost != "" || one.Name == audit.DatabaseWriter
		if over && pack.ParseTime(one.Last).Before(p.From) || !pack.ParseTime(one.First).Before(p.To) {
			continue
		}
		list = append(list, one)
	}
	return list
}
