package evidence

import (
	"bytes"
	"fmt"
	"html/template"
)

// sections are those of the report, in its order. To add one, add a file.
var sections = []sectionSpec{
	resultSpec, missingSpec, countsSpec, lateSpec, reconciliationSpec, destinationsSpec, denialsSpec, unrecordedSpec, reportModeSpec, exceptionsSpec,
	policySpec, approvalsSpec, accessSpec, writersSpec, selfTestsSpec, operatorActionsSpec, exportsSpec, keysSpec, otherSpec,
}

// sectionList are the sections at work.
type sectionList []section

func beginSections() sectionList {
	var all sectionList
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

// rendered is a section as the report shows it.
type rendered struct {
	Name     string
	Title    string
	Criteria []string
	Text     template.HTML
	Tables   []Table
}

// tables are those of all sections.
func tablesOf(all []rendered) []Table {
	var list []Table
	for _, r := range all {
		list = append(list, r.Tables...)
	}
	return list
}

// event gives an event to all. A record that cannot be read is given to none.
func (c sectionList) event(leaf int64, record []byte, period Period) (*recordFields, error) {
	s, err := read(record)
	if err != nil {
		return nil, err
	}
	e := &loggedEvent{recordFields: s, leaf: leaf, record: record, inPeriod: period.within(s.Time)}
	for _, one := range c {
		one.event(e)
	}
	return s, nil
}

func (c sectionList) render(f *Facts) ([]rendered, error) {
	var all []rendered
	for i, s := range sections {
		r := rendered{Name: s.name, Title: s.title, Criteria: s.criteria, Tables: c[i].finish(f)}
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
