package evidence

import (
	"strings"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/recorded"
)

// predecessors are the writers that the first event of a writer names as those that it
// continues.
type predecessors map[string]map[string]bool

// notice keeps what the first event of a writer names: several writers are separated
// by spaces.
func (p predecessors) notice(s *recorded.Event) {
	previous := s.Attributes["previous_writer"]
	if s.Kind != string(audit.KindWriterStarted) || previous == "" || s.WriterSequence != 1 {
		return
	}
	names := make(map[string]bool)
	for name := range strings.FieldsSeq(previous) {
		names[name] = true
	}
	p[s.Writer] = names
}
