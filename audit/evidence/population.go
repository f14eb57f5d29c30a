package evidence

import (
	"github.com/sallyport/sallyport/audit"
)

// population is what a pass over the decisions gathers, when a pack is made and
// again when it is checked.
type population struct {
	sections  sectionList
	sample    sample
	digest    digest
	count     int64
	bad       int64 // records that cannot be read
	probes    int64 // decisions about probes of the self-test
	revisions map[string]string

	reconciled []*reconciled
}

// event takes the next other event.
func (p *population) event(leaf int64, record []byte, period Period) (*recordFields, error) {
	s, err := p.sections.event(leaf, record, period)
	if err == nil && s.Kind == string(audit.KindReconciled) {
		p.reconciled = append(p.reconciled, &reconciled{recordFields: s, leaf: leaf})
	}
	return s, err
}

// take takes the next decision. One whose record cannot be read is counted, and in no
// table.
func (p *population) take(one *prepared) {
	p.count++
	p.digest.addLeaf(one.leaf)
	d := one.decided
	if d == nil {
		p.bad++
		return
	}
	// A reviewer draws from what pipelines did; the probes have a section of their own.
	if d.isProbe() {
		p.probes++
	} else {
		p.sample.offer(d.DecisionID, &one.pair)
	}
	if d.Revision != "" {
		p.revisions[d.Revision] = d.Commit
	}
	for _, section := range p.sections {
		section.decision(d)
	}
}

// found compares the rows of a reconciliation with its digest, and gives them to the report.
func (p *population) found(r *reconciled, rows []string) {
	r.hold(rows)
	var list []foundRow
	for _, row := range rows {
		if !r.unchanged {
			break
		}
		f, err := readFound(row)
		if err != nil {
			r.unread++
			continue
		}
		list = append(list, f)
	}
	for _, one := range p.sections {
		if f, ok := one.(finder); ok {
			f.reconciled(r, list)
		}
	}
}
