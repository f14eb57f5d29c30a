// Package doctor checks from inside a build step whether the step can use Sallyport: the
// connection to the proxy, the step's token, the variables and files that tools read, the
// targets that the policy allows, and Bitbucket's own proxy in the step. No output contains
// the token or a part of it.
package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// ErrFailed is the error of Run if a check failed. Run has printed the check.
var ErrFailed = errors.New("a check failed")

// Examine runs all checks. It returns them in a fixed order: the proxy, the token, the
// server's answer, targets, variables, files, Bitbucket's proxy.
func Examine(ctx context.Context, c Config) []Check {
	if c.Now == nil {
		c.Now = time.Now
	}
	x := &examination{Config: c, environment: map[string]string{}}
	for _, entry := range c.Environ {
		name, value, _ := strings.Cut(entry, "=")
		x.environment[name] = value
	}
	if c.Token != nil {
		if t, err := c.Token.Token(ctx); err == nil {
			x.secret = t
		}
	}
	proxies := x.checkProxies(ctx)
	claims := x.checkToken(ctx)
	x.checkServer(ctx, proxies, claims)
	x.checkForwarder(ctx)
	x.checkVariables()
	x.checkFiles()
	x.checkBitbucket(ctx)
	return x.checks
}

// Run runs all checks and prints one line for each to out, or a JSON object. It returns
// ErrFailed if a check failed; warnings are not failures.
func Run(ctx context.Context, c Config, out io.Writer) error {
	checks := Examine(ctx, c)
	failed := 0
	for _, check := range checks {
		if check.Outcome == Failed {
			failed++
		}
	}
	var err error
	if c.JSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		err = e.Encode(struct {
			Checks []Check `json:"checks"`
			Failed int     `json:"failed"`
		}{checks, failed})
	} else {
		err = printLines(out, checks)
	}
	switch {
	case err != nil:
		return fmt.Errorf("doctor: print: %w", err)
	case failed > 0:
		return ErrFailed
	}
	return nil
}

func printLines(out io.Writer, checks []Check) error {
	for _, c := range checks {
		line := fmt.Sprintf("%-7s  %-19s  %s", c.Outcome, c.Name, c.Detail)
		if c.Remedy != "" {
			line += "; to do: " + c.Remedy
		}
		if _, err := fmt.Fprintln(out, line); err != nil {
			return err
		}
	}
	return nil
}
