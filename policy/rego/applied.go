package rego

import (
	"context"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/policy"
)

// maxApplied bounds how many exceptions the record of one decision names.
const maxApplied = 16

// exceptionsNoted are the exceptions that lib.exceptions_for found for one question:
// of its repository and target, and in force at its time.
type exceptionsNoted struct{ list []*ast.Term }

type exceptionsNotedKey struct{}

// noteExceptions makes a context in which the library records the exceptions that it
// finds.
func noteExceptions(ctx context.Context) (context.Context, *exceptionsNoted) {
	n := new(exceptionsNoted)
	return context.WithValue(ctx, exceptionsNotedKey{}, n), n
}

func noteException(ctx context.Context, exception *ast.Term) {
	if n, ok := ctx.Value(exceptionsNotedKey{}).(*exceptionsNoted); ok && !slices.ContainsFunc(n.list, exception.Equal) {
		n.list = append(n.list, exception)
	}
}

// mergeExceptions sorts exceptions by their paths, without repetition.
func mergeExceptions(a, b []policy.AppliedException) []policy.AppliedException {
	place := func(e *policy.AppliedException) string { return e.Path + e.Owner + e.Ticket }
	list := slices.Concat(a, b)
	slices.SortFunc(list, func(a, b policy.AppliedException) int { return strings.Compare(place(&a), place(&b)) })
	list = slices.CompactFunc(list, func(a, b policy.AppliedException) bool {
		return a.Path != "" && place(&a) == place(&b)
	})
	return list[:min(len(list), maxApplied)]
}
