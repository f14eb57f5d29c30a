package report

import (
	"slices"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
	"github.com/sallyport/sallyport/audit/recorded"
)

// Starts of writers, as tables name them.
const (
	startSigned   = "signed"     // by a key that signed the log
	startUnsigned = "not signed" // an event writer_started, without such a signature
	startMissing  = "none"
)

// starts knows of each writer whether its process showed a key of the log. A holder of
// the login that records can begin a writer of their own.
type starts struct {
	recorded map[string]bool
	keys     map[string][]audit.Key // that signed the writer's name
}

func newStarts() *starts {
	return &starts{recorded: map[string]bool{}, keys: map[string][]audit.Key{}}
}

// event takes an event of the pack: those of the kinds that show a key are in it,
// whatever its period is.
func (s *starts) event(e *recorded.Event) {
	kind := audit.Kind(e.Kind)
	if kind == audit.KindWriterStarted {
		s.recorded[e.Writer] = true
	}
	if k, ok := audit.WriterKey(kind, e.Writer, e.Attributes); ok && !slices.Contains(s.keys[e.Writer], k) && len(s.keys[e.Writer]) < maxWriterKeys {
		s.keys[e.Writer] = append(s.keys[e.Writer], k)
	}
}

// maxWriterKeys bounds the keys that are kept of a writer: one in each of its events of
// the kind signing_key.
const maxWriterKeys = 16

// of is the start of a writer. The database itself needs none: only its own functions
// write in its name.
func (s *starts) of(writer string, f *pack.Facts) string {
	switch {
	case writer == audit.DatabaseWriter:
		return startSigned
	case slices.ContainsFunc(s.keys[writer], func(k audit.Key) bool { return slices.Contains(f.Result.Keys, k) }):
		return startSigned
	case s.recorded[writer]:
		return startUnsigned
	}
	return startMissing
}

// startsUser is a section whose tables name the starts of writers.
type startsUser struct{ starts *starts }

func (u *startsUser) useStarts(s *starts) { u.starts = s }
