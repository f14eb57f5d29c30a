package evidence

import (
	"bytes"
	"fmt"
	"html/template"

	"github.com/sallyport/sallyport/audit"
)

// A chapter gathers what one section of the report says. It is given every
// decision of the population in order, then every other event in the order of the
// tree, then the facts; afterwards it is not used again.
type chapter interface {
	decision(d *decided)
	event(e *happened)
	finish(f *Facts) []Table
}

// decided is one decision of the population with its end.
type decided struct {
	*said
	leaf, endLeaf int64
	end           *said // nil: none is sealed
}

// happened is one other event.
type happened struct {
	*said
	leaf     int64
	record   []byte // holds until event returns
	inPeriod bool
}

// section is one section of the report: its text is a template that is given the
// chapter, its tables follow.
type section struct {
	name     string
	title    string
	criteria []string     // of SOC 2 that it supports
	kinds    []audit.Kind // of events that it speaks of, so that the last section does not
	text     string
	begin    func() chapter
}

// sections are those of the report, in its order. To add one, add a file.
var sections = []section{
	resultSection, missingSection, countsSection, lateSection, completenessSection, destinationsSection, denialsSection, unrecordedSection, reportModeSection, exceptionsSection,
	policySection, approvalsSection, accessSection, writersSection, selfTestsSection, deedsSection, exportsSection, keysSection, otherSection,
}

// nothing is for chapters that do not need all.
type nothing struct{}

func (nothing) decision(*decided) {}
func (nothing) event(*happened)   {}

// chapters are the sections at work.
type chapters []chapter

func beginChapters() chapters {
	var all chapters
	told := map[string]bool{}
	for _, s := range sections {
		for _, k := range s.kinds {
			told[string(k)] = true
		}
		all = append(all, s.begin())
	}
	shared := newStarts() // the writers' chapter fills it
	for _, one := range all {
		if user, ok := one.(interface{ useStarts(*starts) }); ok {
			user.useStarts(shared)
		}
		if other, ok := one.(*otherChapter); ok {
			other.told = told
		}
	}
	return all
}

// event gives an event to all. A record that cannot be read is given to none.
func (c chapters) event(leaf int64, record []byte, period Period) (*said, error) {
	s, err := read(record)
	if err != nil {
		return nil, err
	}
	e := &happened{said: s, leaf: leaf, record: record, inPeriod: period.within(s.Time)}
	for _, one := range c {
		one.event(e)
	}
	return s, nil
}

// rendered is a section as the report shows it.
type rendered struct {
	Name     string
	Title    string
	Criteria []string
	Text     template.HTML
	Tables   []Table
}

func (c chapters) render(f *Facts) ([]rendered, error) {
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

// tables are those of all sections.
func tablesOf(all []rendered) []Table {
	var list []Table
	for _, r := range all {
		list = append(list, r.Tables...)
	}
	return list
}
