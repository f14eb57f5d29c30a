package check

import (
	"fmt"
	"regexp/syntax"
	"slices"
	"strings"
)

// maxPatternBytes bounds the expressions that are judged.
const maxPatternBytes = 1000

// regularExpression judges an expression for a host, a full name or a branch: it has to
// match the whole text, or whole labels at its end.
func regularExpression(field, pattern string) mistake {
	if len(pattern) > maxPatternBytes {
		return mistake{}
	}
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return mistake{} // OPA reports it
	}
	boundary := '/'
	hint := `begin it with ^ and end it with $`
	if field == "target.host" {
		boundary, hint = '.', `begin it with ^ and end it with $, or use lib.host_in(input.target.host, {"partner.example", "*.partner.example"})`
	}
	if field == "principal.branch" {
		boundary = -1
	}
	start, end := &bounds{boundary: boundary}, &bounds{boundary: boundary, backward: true}
	switch {
	case !start.hold([]*syntax.Regexp{re}, false):
		return mistake{fmt.Sprintf("the expression %q also matches what has something else before it", pattern), hint, true}
	case field == "target.host" && !end.hold([]*syntax.Regexp{re}, false):
		return mistake{fmt.Sprintf("the expression %q also matches what has something else behind it", pattern), hint, true}
	case (field == "principal.repository.full_name" || field == deliveredFullName) && !end.hold([]*syntax.Regexp{re}, false) && !strings.HasSuffix(pattern, "/"):
		return mistake{fmt.Sprintf("the expression %q also matches what has something else behind it", pattern), hint, true}
	case field == "target.host" && looseDot(re):
		return mistake{fmt.Sprintf("in the expression %q a dot stands for any byte", pattern), `write \. for a dot`, true}
	}
	return mistake{}
}

// bounds finds whether a match of an expression begins (or, backward, ends) where the text
// does, or at a boundary between labels.
type bounds struct {
	boundary rune
	backward bool
	steps    int
}

// hold follows the expressions that come next. anchored is set if the text begins here.
func (b *bounds) hold(next []*syntax.Regexp, anchored bool) bool {
	if b.steps++; b.steps > 1000 {
		return true // not followed further
	}
	if len(next) == 0 {
		return anchored
	}
	first, rest := b.cut(next)
	switch first.Op {
	case syntax.OpBeginText, syntax.OpBeginLine:
		return b.hold(rest, anchored || !b.backward)
	case syntax.OpEndText, syntax.OpEndLine:
		return b.hold(rest, anchored || b.backward)
	case syntax.OpEmptyMatch, syntax.OpWordBoundary, syntax.OpNoWordBoundary:
		return b.hold(rest, anchored)
	case syntax.OpCapture, syntax.OpConcat:
		return b.hold(b.join(first.Sub, rest), anchored)
	case syntax.OpAlternate:
		return !slices.ContainsFunc(first.Sub, func(sub *syntax.Regexp) bool { return !b.hold(b.join([]*syntax.Regexp{sub}, rest), anchored) })
	case syntax.OpLiteral:
		return anchored || b.atBoundary(first)
	case syntax.OpCharClass:
		return anchored || slices.Equal(first.Rune, []rune{b.boundary, b.boundary})
	case syntax.OpStar, syntax.OpPlus, syntax.OpQuest, syntax.OpRepeat:
		return b.repeated(first, rest, anchored)
	}
	return anchored
}

// cut returns the next expression, and the others.
func (b *bounds) cut(next []*syntax.Regexp) (first *syntax.Regexp, rest []*syntax.Regexp) {
	i := 0
	if b.backward {
		i = len(next) - 1
	}
	return next[i], slices.Delete(slices.Clone(next), i, i+1)
}

// join replaces the expression that was cut by its parts.
func (b *bounds) join(subs, rest []*syntax.Regexp) []*syntax.Regexp {
	if b.backward {
		return slices.Concat(rest, subs)
	}
	return slices.Concat(subs, rest)
}

// repeated is hold for an expression that may match several times, or not at all.
func (b *bounds) repeated(first *syntax.Regexp, rest []*syntax.Regexp, anchored bool) bool {
	sub := first.Sub[0]
	if isOne(sub) && first.Op != syntax.OpQuest {
		return len(rest) > 0 && b.hold(rest, false) || len(rest) == 0 && anchored
	}
	// With it, and without it.
	return b.hold(b.join([]*syntax.Regexp{sub}, rest), anchored) && (first.Op == syntax.OpPlus || b.hold(rest, anchored))
}

// atBoundary reports whether a literal begins (or ends) with the boundary.
func (b *bounds) atBoundary(literal *syntax.Regexp) bool {
	runes := literal.Rune
	if len(runes) == 0 {
		return false
	}
	if b.backward {
		return false // what follows a dot is another label
	}
	return runes[0] == b.boundary
}

// isOne reports whether an expression is any one of several bytes.
func isOne(re *syntax.Regexp) bool {
	for re.Op == syntax.OpCapture {
		re = re.Sub[0]
	}
	return re.Op == syntax.OpAnyChar || re.Op == syntax.OpAnyCharNotNL || re.Op == syntax.OpCharClass
}

// looseDot reports whether a single dot is between literals.
func looseDot(re *syntax.Regexp) bool {
	for i, sub := range re.Sub {
		if re.Op == syntax.OpConcat && i > 0 && i+1 < len(re.Sub) && (sub.Op == syntax.OpAnyCharNotNL || sub.Op == syntax.OpAnyChar) &&
			re.Sub[i-1].Op == syntax.OpLiteral && re.Sub[i+1].Op == syntax.OpLiteral {
			return true
		}
		if looseDot(sub) {
			return true
		}
	}
	return false
}
