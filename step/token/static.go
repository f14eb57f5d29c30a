package token

import (
	"context"
	"fmt"
	"os"
)

// Environment returns the token that an environment variable has now. The environment of
// a process does not change from outside, so the variable is read once. If unset is true,
// the variable is removed from this process, so that its children do not inherit it.
func Environment(name string, unset bool) (Source, error) {
	value, found := os.LookupEnv(name)
	if unset {
		_ = os.Unsetenv(name)
	}
	if !found || value == "" {
		return nil, fmt.Errorf("the environment variable %q is not set: add oidc: true to the step, or name another source of the token", name)
	}
	t, err := Parse(value)
	if err != nil {
		return nil, fmt.Errorf("environment variable %q: %w", name, err)
	}
	return Static(t), nil
}

// Static returns a source of one token that is never renewed.
func Static(t Token) Source { return static{t} }

type static struct{ token Token }

func (s static) Token(context.Context) (Token, error)        { return s.token, nil }
func (s static) Renew(context.Context, Token) (Token, error) { return s.token, nil }
