package report

import (
	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
	"github.com/sallyport/sallyport/audit/recorded"
)

// A section gathers the content of one section of the report. It is given every
// decision of the population in order, then every other event in the order of the
// tree, then the facts; afterwards it is not used again.
type section interface {
	decision(d *Decision)
	event(e *loggedEvent)
	finish(f *pack.Facts) []pack.Table
}

// Decision is one decision of the population with its end.
type Decision struct {
	*recorded.Event
	leaf, endLeaf int64
	End           *recorded.Event // nil: none is sealed
}

// loggedEvent is one other event.
type loggedEvent struct {
	*recorded.Event
	leaf     int64
	record   []byte // holds until event returns
	inPeriod bool
}

// sectionSpec is one section of the report: its text is a template that is given the
// section, its tables follow.
type sectionSpec struct {
	name     string
	title    string
	criteria []string     // of SOC 2 that it supports
	kinds    []audit.Kind // of events that it speaks of, so that the last section does not
	text     string
	begin    func() section
}

// nothing is for sections that do not need all.
type nothing struct{}

func (nothing) decision(*Decision) {}
func (nothing) event(*loggedEvent) {}
