package report

import (
	"bytes"
	"fmt"
	"html/template"

	"github.com/sallyport/sallyport/audit/evidence/pack"
	"github.com/sallyport/sallyport/audit/recorded"
)

// sections are those of the report, in its order. To add one, add a file.
var sections = []sectionSpec{
	resultSpec, missingSpec, countsSpec, lateSpec, reconciliationSpec, destinationsSpec, denialsSpec, unrecordedSpec, reportModeSpec, wouldCloseSpec, exceptionsSpec, webhooksSpec,
	policySpec, approvalsSpec, accessSpec, writersSpec, selfTestsSpec, operatorActionsSpec, exportsSpec, keysSpec, secretsSpec, otherSpec,
}

// SectionList are the sections at work.
type SectionList []section

func NewSections() SectionList {
	var all SectionList
	covered := map[string]bool{}
	for _, s := range sections {
		for _, k := range s.kinds {
			covered[string(k)] = true
		}
		all = append(all, s.begin())
	}
	shared := newStarts() // the writers' section fills it
	for _, one := range all {
		if user, ok := one.(interface{ useStarts(*starts) }); ok {
			user.useStarts(shared)
		}
		if other, ok := one.(*otherSection); ok {
			other.covered = covered
		}
	}
	return all
}

// Rendered is a section as the report shows it.
type Rendered struct {
	Name     string
	Title    string
	Criteria []string
	Text     template.HTML
	Tables   []pack.Table
}

// tables are those of all sections.
func TablesOf(all []Rendered) []pack.Table {
	var list []pack.Table
	for _, r := range all {
		list = append(list, r.Tables...)
	}
	return list
}

// event gives an event to all. A record that cannot be read is given to none.
func (c SectionList) event(leaf int64, record []byte, period pack.Period) (*recorded.Event, error) {
	s, err := recorded.Read(record)
	if err != nil {
		return nil, err
	}
	e := &loggedEvent{Event: s, leaf: leaf, record: record, inPeriod: period.Contains(s.Time)}
	for _, one := range c {
		one.event(e)
	}
	return s, nil
}

func (c SectionList) Render(f *pack.Facts) ([]Rendered, error) {
	var all []Rendered
	for i, s := range sections {
		r := Rendered{Name: s.name, Title: s.title, Criteria: s.criteria, Tables: c[i].finish(f)}
		t, err := template.New(s.name).Funcs(functions).Parse(s.text)
		if err != nil {
			return nil, fmt.Errorf("section %s: %w", s.name, err)
		}
		var b bytes.Buffer
		if err := t.Execute(&b, c[i]); err != nil {
			return nil, fmt.Errorf("section %s: %w", s.name, err)
		}
		r.Text = template.HTML(b.String()) // made by html/template
		all = append(all, r)
	}
	return all, nil
}
