package rego

import (
	"fmt"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/sallyport/sallyport/policy/rego/functions"
)

var timeQuery = ast.MustParseBody("data.user.times = x")

// timesAt evaluates the library's functions about time: their results as text, and the span
// in which they are the same.
func timesAt(t testing.TB, c *ast.Compiler, end, window ast.Value, at time.Time) (result string, span functions.Span) {
	t.Helper()
	ctx, notes := functions.TakeNotes(t.Context())
	input := ast.NewObject([2]*ast.Term{ast.StringTerm("end"), ast.NewTerm(end)}, [2]*ast.Term{ast.StringTerm("window"), ast.NewTerm(window)})
	results, err := topdown.NewQuery(timeQuery).WithCompiler(c).WithStore(inmem.New()).WithInput(ast.NewTerm(input)).
		WithTime(at).WithStrictBuiltinErrors(true).WithBuiltins(functions.Native).Run(ctx)
	if err != nil || len(results) != 1 {
		return fmt.Sprintf("error, %d", len(results)), notes.Span
	}
	return results[0][ast.Var("x")].String(), notes.Span
}

func compareTimes(t testing.TB, written, native *ast.Compiler, end, window ast.Value, at, later time.Time) {
	t.Helper()
	want, _ := timesAt(t, written, end, window, at)
	got, span := timesAt(t, native, end, window, at)
	if got != want {
		t.Fatalf("end %v, window %v, at %v: %s as it decides, %s as it is written", end, window, at, got, want)
	}
	if !span.Has(at) {
		t.Fatalf("end %v, window %v: the span %v does not have its own time %v", end, window, span, at)
	}
	if after, _ := timesAt(t, written, end, window, later); span.Has(later) && after != want {
		t.Fatalf("end %v, window %v: %s at %v, and %s at %v, which the span %v has", end, window, want, at, after, later, span)
	}
}

// FuzzNativeTime: the library's functions about time have the same results in Go and in
// Rego, and the same results at every time of the span that they record.
func FuzzNativeTime(f *testing.F) {
	for _, end := range []string{"2026-12-01T00:00:00Z", "2026-02-31T00:00:00Z", "2026-12-01T24:00:00Z", "2026-12-01", "", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-12-01T00:00:00.5Z"} {
		for _, offset := range []int64{-1, 0, 1, 999_999_999} {
			f.Add(end, "08:30", "9:15", "mon", int64(1_764_547_200_000_000_000)+offset, int64(60_000_000_000))
		}
	}
	f.Add("2026-03-03T00:00:00Z", "22:00", "06:00", "Tuesday", int64(1_772_496_000_000_000_000), int64(-1))
	f.Add("2026-03-03T00:00:00Z", "00:00", "24:00", "", int64(1_772_496_000_000_000_000-1), int64(1))
	written, native := asWritten(f, false), asWritten(f, true)
	f.Fuzz(func(t *testing.T, end, from, to, day string, at, distance int64) {
		if at < 0 || at > 1<<62 || distance > 1<<55 || distance < -1<<55 || at+distance < 0 {
			return
		}
		window := ast.NewObject([2]*ast.Term{ast.StringTerm("from"), ast.StringTerm(from)}, [2]*ast.Term{ast.StringTerm("to"), ast.StringTerm(to)})
		if day != "" {
			window.Insert(ast.StringTerm("days"), ast.ArrayTerm(ast.StringTerm(day)))
		}
		compareTimes(t, written, native, ast.String(end), window, time.Unix(0, at).UTC(), time.Unix(0, at+distance).UTC())
	})
}

// TestNativeTimes: for every minute of two days, and ends of every kind.
func TestNativeTimes(t *testing.T) {
	t.Parallel()
	written, native := asWritten(t, false), asWritten(t, true)
	start := time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)
	windows := []string{`{"from": "08:30", "to": "17:00"}`, `{"from": "22:00", "to": "6:00", "days": ["mon"]}`, `{"from": "00:00", "to": "24:00", "days": ["Tuesday"]}`, `{"from": 1, "to": "x"}`}
	ends := []string{`"2026-11-30T12:00:00Z"`, `"2026-11-31T00:00:00Z"`, `"2026-12-01T00:00:00Z"`, `null`, `{"a": 1}`, `1`}
	for minute := 0; minute < 2*24*60; minute += 7 {
		at := start.Add(time.Duration(minute)*time.Minute + time.Duration(minute%61)*time.Second)
		window, end := ast.MustParseTerm(windows[minute%len(windows)]).Value, ast.MustParseTerm(ends[minute/7%len(ends)]).Value
		for _, distance := range []time.Duration{-time.Minute, -time.Second, 59 * time.Second, time.Hour} {
			compareTimes(t, written, native, end, window, at, at.Add(distance))
		}
	}
}
