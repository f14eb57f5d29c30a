package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/internal/bitbuckettest"
	"github.com/sallyport/sallyport/internal/testenv"
)

// bitbucketOptions are the flags of sallyport-demo bitbucket.
type bitbucketOptions struct {
	address   string // of the emulated Bitbucket
	tokens    string // of the listener that makes tokens
	directory string
	audience  string
}

func newBitbucketCommand() *cobra.Command {
	o := bitbucketOptions{}
	c := &cobra.Command{
		Use:   "bitbucket",
		Short: "Run the emulated Bitbucket alone, for your own server",
		Long: `Run the emulated Bitbucket alone: the OIDC issuer and the REST API of a
workspace "acme" with the repositories acme/payments (deployments production and
staging) and acme/website. It prints the configuration that a server needs, and
makes tokens for steps. It listens on loopback only and ends on an interrupt.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return runBitbucket(c.Context(), c.OutOrStdout(), o) },
	}
	c.Flags().StringVar(&o.address, "address", "127.0.0.1:7990", "loopback `ADDRESS` of issuer and API")
	c.Flags().StringVar(&o.tokens, "tokens", "127.0.0.1:7991", "loopback `ADDRESS` that makes tokens")
	c.Flags().StringVar(&o.directory, "directory", ".", "where to put the API token's file: `DIR`")
	c.Flags().StringVar(&o.audience, "audience", testenv.Audience, "the server's audience: `URL`")
	return c
}

// runBitbucket serves until ctx is done.
func runBitbucket(ctx context.Context, out io.Writer, o bitbucketOptions) error {
	for flag, address := range map[string]string{"--address": o.address, "--tokens": o.tokens} {
		if err := checkLoopback(address); err != nil {
			return fmt.Errorf("%s: %w", flag, err)
		}
	}
	b, err := bitbuckettest.New(bitbuckettest.Options{})
	if err != nil {
		return err
	}
	defer b.Close()
	if err := b.Start(o.address); err != nil {
		return fmt.Errorf("start the emulated Bitbucket on %s: %w: end what listens there, or name another address with --address", o.address, err)
	}
	workspace := b.AddWorkspace("acme")
	workspace.SetAccessTokens(testenv.AccessToken)
	payments, website := workspace.AddRepository("payments", "PAY"), workspace.AddRepository("website", "WEB")
	maker := &tokenMaker{audience: o.audience, environments: map[string]map[string]*bitbuckettest.Environment{
		"acme/payments": {
			"production": payments.AddEnvironment("Production", bitbuckettest.Production),
			"staging":    payments.AddEnvironment("Staging", bitbuckettest.Staging),
		},
		"acme/website": {},
	}, repositories: map[string]*bitbuckettest.Repository{"acme/payments": payments, "acme/website": website}}
	tokenFile, err := filepath.Abs(filepath.Join(o.directory, "bitbucket-token"))
	if err != nil {
		return err
	}
	if err := os.WriteFile(tokenFile, []byte(testenv.AccessToken+"\n"), 0o600); err != nil {
		return err
	}
	l, err := net.Listen("tcp", o.tokens)
	if err != nil {
		return fmt.Errorf("listen for requests of tokens: %w", err)
	}
	server := &http.Server{Handler: maker, ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	fmt.Fprintf(out, `# The emulated Bitbucket runs on %s until you press Ctrl-C.
# Put this into the server's configuration:
identity:
  bitbucket:
    - workspace: acme
      workspace_uuid: %q
      issuer: %s
      audiences: [%q]
      api: {url: %s, token_file: %q}
# A token of a step, good for an hour:
#   curl -s 'http://%s/token?repository=acme/payments&deployment=production&branch=main'
`, o.address, workspace.UUID, workspace.Issuer(), o.audience, b.APIURL(), tokenFile, l.Addr())
	select {
	case err := <-ended:
		return fmt.Errorf("make tokens: %w", err)
	case <-ctx.Done():
		return server.Close()
	}
}

// checkLoopback refuses addresses by which others could make tokens.
func checkLoopback(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%q is not an address and a port: write 127.0.0.1:7990", address)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("%s is not a loopback address: everybody who reaches it can make tokens; write 127.0.0.1", host)
	}
	return nil
}

// minExpired is how long ago an expired token ended at least: the most that a
// server can be configured to allow between its clock and the issuer's.
const minExpired = 5 * time.Minute

// tokenMaker answers GET /token with a token of a new step.
type tokenMaker struct {
	audience     string
	repositories map[string]*bitbuckettest.Repository
	environments map[string]map[string]*bitbuckettest.Environment
}

func (m *tokenMaker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if r.Method != http.MethodGet || r.URL.Path != "/token" {
		http.Error(w, "GET /token?repository=acme/payments&deployment=production&branch=main&lifetime=1h", http.StatusNotFound)
		return
	}
	token, err := m.token(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	_, _ = io.WriteString(w, token)
}

func (m *tokenMaker) token(r *http.Request) (string, error) {
	q := r.URL.Query()
	for name := range q {
		switch name {
		case "repository", "deployment", "branch", "audience", "lifetime":
		default:
			return "", fmt.Errorf("%q is not a parameter: use repository, deployment, branch, audience and lifetime", name)
		}
	}
	name := q.Get("repository")
	repository := m.repositories[name]
	if repository == nil {
		return "", fmt.Errorf("%q is not a repository here: use acme/payments or acme/website", name)
	}
	var environment *bitbuckettest.Environment
	if slug := q.Get("deployment"); slug != "" {
		if environment = m.environments[name][slug]; environment == nil {
			return "", fmt.Errorf("%s has no deployment %q: acme/payments has production and staging", name, slug)
		}
	}
	branch := q.Get("branch")
	if branch == "" {
		branch = "main"
	}
	o := bitbuckettest.TokenOptions{Audiences: []string{m.audience}}
	if audience := q.Get("audience"); audience != "" {
		o.Audiences = strings.Split(audience, ",")
	}
	if text := q.Get("lifetime"); text != "" {
		lifetime, err := time.ParseDuration(text)
		switch {
		case err != nil || lifetime == 0:
			return "", errors.New("lifetime is not a duration: write 1h, or -10m for a token that expired ten minutes ago")
		case lifetime > 0:
			o.Lifetime = lifetime
		case lifetime > -minExpired:
			return "", fmt.Errorf("lifetime %s: a server allows for as much between two clocks and could accept the token: write -10m", lifetime)
		default:
			o.IssuedAt = time.Now().Add(lifetime - bitbuckettest.DefaultLifetime)
		}
	}
	return repository.Run(branch).Step(environment).Token(o), nil
}
