package functions

import (
	"context"
	"slices"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Notes are what the library's functions in Go record of one evaluation. The zero Notes
// are empty.
type Notes struct {
	// Exceptions are those that lib.exceptions_for found: of the input's repository and
	// target, and in force at its time.
	Exceptions []*ast.Term
	// Span is the time in which the library's comparisons with the clock have the same
	// results.
	Span Span
}

type notesKey struct{}

// TakeNotes makes a context in which the library records its notes.
func TakeNotes(ctx context.Context) (context.Context, *Notes) {
	n := new(Notes)
	return context.WithValue(ctx, notesKey{}, n), n
}

func notesOf(ctx context.Context) *Notes {
	n, _ := ctx.Value(notesKey{}).(*Notes)
	return n
}

func recordException(ctx context.Context, exception *ast.Term) {
	if n := notesOf(ctx); n != nil && !slices.ContainsFunc(n.Exceptions, exception.Equal) {
		n.Exceptions = append(n.Exceptions, exception)
	}
}

func recordSpan(ctx context.Context, s Span) {
	if n := notesOf(ctx); n != nil {
		n.Span.Limit(s)
	}
}

// NotesTaken reports whether modules may call a function that records notes.
func NotesTaken(modules map[string]*ast.Module) (found bool) {
	for _, m := range modules {
		ast.WalkRefs(m, func(r ast.Ref) bool {
			found = found || noting[r.String()]
			return found
		})
	}
	return found
}

// Span is a period: from From, and before To. A zero From or To sets no bound, so that the
// zero Span is all of time.
type Span struct{ From, To time.Time }

// Never is an empty Span.
var Never = Span{From: time.Unix(1, 0), To: time.Unix(0, 0)}

// Limit shortens the Span to its intersection with another one.
func (s *Span) Limit(to Span) {
	if !to.From.IsZero() && (s.From.IsZero() || to.From.After(s.From)) {
		s.From = to.From
	}
	if !to.To.IsZero() && (s.To.IsZero() || to.To.Before(s.To)) {
		s.To = to.To
	}
}

// Has reports whether the Span contains a time.
func (s Span) Has(at time.Time) bool {
	return (s.From.IsZero() || !at.Before(s.From)) && (s.To.IsZero() || at.Before(s.To))
}

// IsAlways reports whether a Span is all of time.
func (s Span) IsAlways() bool { return s.From.IsZero() && s.To.IsZero() }

// UntilOrFrom is the Span around a time in which a comparison with an end has the same
// result: before the end, or from it on.
func UntilOrFrom(at, end time.Time) Span {
	if at.Before(end) {
		return Span{To: end}
	}
	return Span{From: end}
}
