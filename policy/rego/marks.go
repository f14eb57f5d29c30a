package rego

import (
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/sallyport/sallyport/internal/worker"
)

// A mark is a position in a unit's files as one number, which survives the death of a
// worker: the index of the file, from 1, and the line.
func markOf(file, line int) uint64 { return uint64(file+1)<<32 | uint64(uint32(line)) }

// marked returns the position of a mark: the first deciding file without one. Line is 1 if
// it is not known.
func (u *unit) marked(mark uint64) (file string, line int) {
	if i := int(mark>>32) - 1; i >= 0 && i < len(u.sources) {
		return u.sources[i].path, max(1, int(uint32(mark)))
	}
	for _, s := range u.sources {
		if !s.test {
			return s.path, 1
		}
	}
	if len(u.sources) > 0 {
		return u.sources[0].path, 1
	}
	return "", 1
}

// mark records that a unit's file is processed.
func (u *unit) mark(path string) {
	for i, s := range u.sources {
		if s.path == path {
			worker.SetMark(markOf(i, 1))
		}
	}
}

// markTracer records the line of a unit's files that is evaluated, and that the evaluation
// makes progress.
type markTracer struct {
	files map[string]int
	inner topdown.QueryTracer // may be nil
}

func newMarkTracer(u *unit, inner topdown.QueryTracer) *markTracer {
	t := &markTracer{files: make(map[string]int, len(u.sources)), inner: inner}
	for i, s := range u.sources {
		t.files[s.path] = i
	}
	return t
}

func (*markTracer) Enabled() bool { return true }

func (t *markTracer) Config() topdown.TraceConfig {
	if t.inner != nil {
		return t.inner.Config()
	}
	return topdown.TraceConfig{}
}

func (t *markTracer) TraceEvent(e topdown.Event) {
	worker.Tick()
	loc := e.Location
	if e.Node != nil && (loc == nil || loc.File == "") {
		loc = e.Node.Loc()
	}
	t.note(loc)
	if t.inner != nil {
		t.inner.TraceEvent(e)
	}
}

func (t *markTracer) note(loc *ast.Location) {
	if loc == nil || loc.Row <= 0 {
		return
	}
	if i, ok := t.files[loc.File]; ok {
		worker.SetMark(markOf(i, loc.Row))
	}
}
