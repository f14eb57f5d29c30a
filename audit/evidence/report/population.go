package report

import (
	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
	"github.com/sallyport/sallyport/audit/recorded"
)

// Population is what a pass over the decisions gathers, when a pack is made and
// again when it is checked.
type Population struct {
	Sections   SectionList
	Sample     pack.Sample
	Digest     pack.SetDigest
	Count      int64
	Unreadable int64 // records that cannot be read
	Probes     int64 // decisions about probes of the self-test
	Revisions  map[string]string

	Reconciled []*Reconciliation
}

// Event takes the next other event.
func (p *Population) Event(leaf int64, record []byte, period pack.Period) (*recorded.Event, error) {
	s, err := p.Sections.event(leaf, record, period)
	if err == nil && s.Kind == string(audit.KindReconciled) {
		p.Reconciled = append(p.Reconciled, &Reconciliation{Event: s, Leaf: leaf})
	}
	return s, err
}

// Add takes the next decision. One whose record cannot be read is counted, and in no
// table.
func (p *Population) Add(one *Prepared) {
	p.Count++
	p.Digest.AddLeaf(one.leaf)
	d := one.Decided
	if d == nil {
		p.Unreadable++
		return
	}
	// A reviewer draws from what pipelines did; the probes have a section of their own.
	if d.IsProbe() {
		p.Probes++
	} else {
		p.Sample.Offer(d.DecisionID, &one.Pair)
	}
	if d.Revision != "" {
		p.Revisions[d.Revision] = d.Commit
	}
	for _, section := range p.Sections {
		section.decision(d)
	}
}

// ShowsKey reports whether the process of a writer has a key of the log. What another
// writer reports of a reconciliation is shown in the tables and damages no pack: every
// login that may record can be one.
func (p *Population) ShowsKey(writer string, f *pack.Facts) bool {
	for _, one := range p.Sections {
		if s, ok := one.(*writersSection); ok {
			return s.starts.of(writer, f) == startSigned
		}
	}
	return true
}

// AddFindings compares the rows of a reconciliation with its digest, and gives them to the report.
func (p *Population) AddFindings(r *Reconciliation, rows []string) {
	r.hold(rows)
	var list []foundRow
	for _, row := range rows {
		if !r.Unchanged {
			break
		}
		f, err := readFound(row)
		if err != nil {
			r.unread++
			continue
		}
		list = append(list, f)
	}
	for _, one := range p.Sections {
		if f, ok := one.(finder); ok {
			f.reconciled(r, list)
		}
	}
}
