package functions

import (
	"context"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Exceptions are the exceptions that lib.exceptions_for found for one input:
// of its repository and target, and in force at its time.
type Exceptions struct{ Found []*ast.Term }

type exceptionsKey struct{}

// RecordExceptions makes a context in which the library records the exceptions that it
// finds.
func RecordExceptions(ctx context.Context) (context.Context, *Exceptions) {
	n := new(Exceptions)
	return context.WithValue(ctx, exceptionsKey{}, n), n
}

func recordException(ctx context.Context, exception *ast.Term) {
	if n, ok := ctx.Value(exceptionsKey{}).(*Exceptions); ok && !slices.ContainsFunc(n.Found, exception.Equal) {
		n.Found = append(n.Found, exception)
	}
}
