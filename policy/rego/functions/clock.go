package functions

import (
	"encoding/json"
	"regexp"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/types"
)

// The library's functions about time are implemented in Go, to record the Span of their
// results. lib.before and lib.since compare with an end. lib.within reads the minute and
// the day of the week only: its rule in_window has another clock, which records the minute.

// utcTime is the form that lib.utc accepts.
var utcTime = regexp.MustCompile(`^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z$`)

// comparison implements lib.before and lib.since.
func comparison(name string, holds func(now, end string) bool) *topdown.Builtin {
	return &topdown.Builtin{
		Decl: &ast.Builtin{Name: "sallyport:" + name, Decl: types.NewFunction(types.Args(types.A), types.B)},
		Func: func(c topdown.BuiltinContext, operands []*ast.Term, iter func(*ast.Term) error) error {
			is, err := compareClock(c, operands[0], holds)
			if err != nil {
				return err
			}
			return iter(ast.InternedTerm(is))
		},
	}
}

func isBefore(now, end string) bool { return now < end }
func isSince(now, end string) bool  { return now >= end }

// compareClock compares the time of an evaluation with an end, as text of whole seconds. A
// malformed end is neither before nor since.
func compareClock(c topdown.BuiltinContext, until *ast.Term, holds func(now, end string) bool) (bool, error) {
	end, ok := until.Value.(ast.String)
	if !ok || !utcTime.MatchString(string(end)) {
		return false, nil
	}
	now, err := timeOf(c)
	if err != nil {
		return false, err
	}
	recordSpan(c.Context, spanOfEnd(now, string(end)))
	text := now.Format(time.RFC3339Nano)
	return holds(text[:min(len(text), 19)], string(end)[:19]), nil
}

// spanOfEnd is the Span of a comparison with an end. The library compares as text: an end
// on a day that its month does not have is not a point in time, and the second of the
// comparison is all that is known.
func spanOfEnd(now time.Time, end string) Span {
	at, err := time.Parse("2006-01-02T15:04:05Z", end)
	if err != nil || now.Year() > 9999 || now.Year() < 0 {
		second := now.Truncate(time.Second)
		return Span{From: second, To: second.Add(time.Second)}
	}
	return UntilOrFrom(now, at)
}

// minuteClock implements time.now_ns for rules that read nothing of it below a minute.
var minuteClock = &topdown.Builtin{
	Decl: &ast.Builtin{Name: "sallyport:minute_clock", Decl: types.NewFunction(nil, types.N)},
	Func: func(c topdown.BuiltinContext, _ []*ast.Term, iter func(*ast.Term) error) error {
		now, err := timeOf(c)
		if err != nil {
			return err
		}
		minute := now.Truncate(time.Minute)
		recordSpan(c.Context, Span{From: minute, To: minute.Add(time.Minute)})
		return iter(c.Time)
	},
}

// timeOf is the time of an evaluation, in UTC.
func timeOf(c topdown.BuiltinContext) (time.Time, error) {
	number, _ := c.Time.Value.(ast.Number)
	ns, err := json.Number(number).Int64()
	return time.Unix(0, ns).UTC(), err
}

// withMinuteClock is a copy of a rule that calls minuteClock in place of time.now_ns.
func withMinuteClock(rule *ast.Rule) *ast.Rule {
	rule = rule.Copy()
	ast.WalkTerms(rule, func(t *ast.Term) bool {
		if ref, ok := t.Value.(ast.Ref); ok && ref.Equal(ast.NowNanos.Ref()) {
			t.Value = minuteClock.Decl.Ref()
		}
		return false
	})
	return rule
}
