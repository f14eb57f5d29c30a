package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/stepapi"
	"github.com/sallyport/sallyport/step/query"
	"github.com/sallyport/sallyport/step/token"
)

// The outcomes of a check.
const (
	OK      = "ok"
	Warning = "warning" // works, with a weakness
	Failed  = "failed"
	Skipped = "skipped" // cannot be checked here
)

// Check is the outcome of one check. Its texts are printable ASCII.
type Check struct {
	Name    string `json:"check"`
	Outcome string `json:"outcome"`
	Detail  string `json:"detail"`
	Remedy  string `json:"remedy,omitempty"` // of a warning or a failure
}

// Variable is an environment variable with the value that it should have.
type Variable struct{ Name, Value string }

// Config describes the step to check. Proxies is required.
type Config struct {
	Proxies   []string // URLs, https://HOST:PORT
	Plaintext bool     // http:// URLs are permitted
	CAFile    string   // authorities of the proxies in PEM; "": the system's

	Token       token.Source
	TokenOrigin string // where the token comes from, such as "environment variable NAME"
	TokenName   string // the environment variable that may contain the token; "" if none

	// Step asks the server through the running forwarder, which has the token of a step that
	// has unset it; nil: there is none. It is used only where Token has no token.
	Step func(context.Context) (*stepapi.Step, error)

	// Evaluate is Step for the targets; required if Step is set.
	Evaluate func(ctx context.Context, targets []string) (*stepapi.Evaluations, error)

	// Forwarder is the running forwarder of the step; invalid if none is running.
	Forwarder netip.AddrPort
	// Expected are the variables as `sallyport-step start` sets them.
	Expected []Variable

	Targets []string // host:port, evaluated by the server

	Environ []string // KEY=VALUE of the step
	Home    string   // the directory with the files of tools; "": none is read
	// BitbucketProxy is the address of Bitbucket's proxy; "": BitbucketProxy.
	BitbucketProxy string

	JSON bool             // prints one JSON object instead of lines
	Now  func() time.Time // nil: time.Now
}

// timeout bounds each connection of a check.
const timeout = 5 * time.Second

// examination is one run of all checks.
type examination struct {
	Config
	environment map[string]string
	secret      token.Token // zero: there is none
	checks      []Check
}

func (x *examination) add(name, outcome, detail, remedy string) {
	x.checks = append(x.checks, Check{name, outcome, x.clean(detail), x.clean(remedy)})
}

func (x *examination) ok(name, format string, a ...any) {
	x.add(name, OK, fmt.Sprintf(format, a...), "")
}
func (x *examination) fail(name, remedy, format string, a ...any) {
	x.add(name, Failed, fmt.Sprintf(format, a...), remedy)
}
func (x *examination) warn(name, remedy, format string, a ...any) {
	x.add(name, Warning, fmt.Sprintf(format, a...), remedy)
}

// client returns a client for the reachable proxies.
func (x *examination) client(proxies []query.Proxy) (*query.Client, error) {
	return query.New(query.Config{Proxies: proxies, CAFile: x.CAFile, Token: x.Token})
}

// clean returns a text as one line of printable ASCII without the token and its parts.
func (x *examination) clean(s string) string {
	if !x.secret.IsZero() {
		secret := x.secret.Reveal()
		for _, part := range append([]string{secret}, strings.Split(secret, ".")...) {
			if len(part) >= minSecretPart {
				s = strings.ReplaceAll(s, part, "[token]")
			}
		}
	}
	return printableLine(s)
}

// minSecretPart is the length from which a part of a token is replaced: shorter texts
// occur in honest output.
const minSecretPart = 8

// printableLine replaces what is not printable ASCII, and bounds the text.
func printableLine(s string) string {
	const limit = 500
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	if len(s) > limit {
		s = s[:limit] + "..."
	}
	return s
}
