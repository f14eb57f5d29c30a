package controlcmd

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/components"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/identity/bitbucket"
)

// tokenVariable is where Bitbucket Pipelines puts a step's token.
const tokenVariable = "BITBUCKET_STEP_OIDC_TOKEN"

const maxTokenInput = 64 << 10

func newInspect() *cobra.Command {
	c := &cobra.Command{
		Use:   "inspect [-]",
		Short: "Show a token's claims, whether it is accepted, and why not",
		Long: `Show the content of a token, whether this configuration accepts it, and every
reason not to accept it. The token comes from $` + tokenVariable + `, or from standard
input where that is not set or "-" is given. It is sent nowhere, and neither the
whole of it nor its signature is printed.

No request is made: the signature is checked with the keys that a server with
this configuration keeps, as far as this user may read them. --online asks the
issuer for its public keys, if it is one of the configuration's.

Without a configuration the token is only decoded.

  echo "$TOKEN" | sallyport token inspect -c sallyport.yaml -

Without a configuration, a token is accepted where nothing is wrong with it by itself.`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 1 || len(args) == 1 && args[0] != "-" {
				return cli.Invalid(fmt.Errorf("a token is not an argument, where others see it: pass it on standard input or as $%s\nsee: %s --help", tokenVariable, c.CommandPath()))
			}
			return nil
		},
	}
	path := cli.AddConfigFlag(c)
	online := c.Flags().Bool("online", false, "ask the issuer for its public keys")
	asJSON := cli.AddFormatFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		credential, err := readToken(c.InOrStdin(), len(args) == 1)
		if err != nil {
			return cli.Invalid(err)
		}
		report, name, err := inspect(c, *path, credential, *online)
		if err != nil {
			return err
		}
		if asJSON() {
			err = cli.PrintJSON(c.OutOrStdout(), report)
		} else {
			err = printInspection(c.OutOrStdout(), report, name, time.Now())
		}
		if err == nil && report.Verdict != bitbucket.Accepted && report.Verdict != bitbucket.NotJudged {
			return cli.FindingError{}
		}
		return err
	}
	return c
}

func readToken(in io.Reader, fromInput bool) (identity.Credential, error) {
	text := os.Getenv(tokenVariable)
	if text == "" || fromInput {
		if cli.IsTerminal(in) {
			return identity.Credential{}, fmt.Errorf("there is no token: pass it on standard input or as $%s", tokenVariable)
		}
		raw, err := io.ReadAll(io.LimitReader(in, maxTokenInput+1))
		if err != nil {
			return identity.Credential{}, fmt.Errorf("read standard input: %w", err)
		}
		if len(raw) > maxTokenInput {
			return identity.Credential{}, fmt.Errorf("standard input has more than %d bytes: that is not a token", maxTokenInput)
		}
		text = string(raw)
	}
	credential := identity.NewCredential(strings.TrimSpace(text))
	if credential.IsZero() {
		return credential, fmt.Errorf("there is no token: $%s is empty in a step without oidc", tokenVariable)
	}
	return credential, nil
}

// inspect judges a token by the configuration, or decodes it where there is none.
func inspect(c *cobra.Command, path string, credential identity.Credential, online bool) (*bitbucket.Inspection, string, error) {
	path, err := cli.FindConfig(path)
	if err != nil {
		if online {
			return nil, "", cli.Invalid(fmt.Errorf("--online needs to know which issuers may be asked: %w", err))
		}
		return bitbucket.Decode(credential, time.Now), "", nil
	}
	cfg, name, err := cli.LoadConfig(path)
	if err != nil {
		return nil, "", err
	}
	inspector, err := bitbucket.NewInspector(components.Identity(cfg), bitbucket.Deps{})
	if err != nil {
		return nil, "", err
	}
	defer inspector.Close()
	return inspector.Inspect(c.Context(), credential, online), name, nil
}

// printInspection writes the report for people.
func printInspection(w io.Writer, r *bitbucket.Inspection, name string, now time.Time) error {
	var b strings.Builder
	switch r.Verdict {
	case bitbucket.Accepted:
		fmt.Fprintf(&b, "accepted by %s\n", name)
	case bitbucket.Refused:
		fmt.Fprintf(&b, "not accepted: %s\n", r.Problem)
	case bitbucket.Undecided:
		fmt.Fprintf(&b, "not decided: no check failed, but not every check could run\n")
	case bitbucket.NotJudged:
		b.WriteString("decoded only: without a configuration its signature and its audience are not checked\n")
	}
	printContent(&b, r.Content, now)
	printChecks(&b, r.Checks)
	if k := r.Keys; k != nil {
		from := "as a server kept them"
		if k.Online {
			from = "fetched now"
		}
		fmt.Fprintf(&b, "\nkeys of the issuer: %d, of %s, %s\n", k.Count, cli.FormatTime(k.Fetched), from)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "\n%s\n", n)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func printContent(b *strings.Builder, c *bitbucket.Content, now time.Time) {
	if c == nil {
		return
	}
	b.WriteByte('\n')
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(b, "  %-11s %s\n", name, value)
		}
	}
	line("issuer", c.Issuer)
	for _, a := range c.Audiences {
		line("audience", a)
	}
	line("workspace", c.WorkspaceUUID)
	line("repository", c.RepositoryUUID)
	line("deployment", c.DeploymentUUID)
	line("pipeline", c.PipelineUUID)
	line("step", c.StepUUID)
	line("branch", c.Branch)
	line("subject", c.Subject)
	line("issued", ago(c.Issued, now))
	line("not before", ago(c.NotBefore, now))
	line("expires", ago(c.Expires, now))
	line("key", c.KeyID)
	line("algorithm", c.Algorithm)
	line("other", strings.Join(c.Other, ", "))
}

// ago is a moment, and how far it is from now.
func ago(t *time.Time, now time.Time) string {
	if t == nil {
		return ""
	}
	d := t.Sub(now).Round(time.Second)
	if d >= 0 {
		return fmt.Sprintf("%s (in %v)", cli.FormatTime(*t), d)
	}
	return fmt.Sprintf("%s (%v ago)", cli.FormatTime(*t), -d)
}

// printChecks writes what failed with its words, and the rest by name.
func printChecks(b *strings.Builder, checks []bitbucket.Checked) {
	by := map[bitbucket.Result][]string{}
	for _, c := range checks {
		by[c.Result] = append(by[c.Result], c.Check)
		switch c.Result {
		case bitbucket.Failed:
			fmt.Fprintf(b, "\nFAILED %s (%s)\n  %s\n", c.Check, c.About, c.Detail)
		case bitbucket.Unknown:
			fmt.Fprintf(b, "\nunknown %s (%s)\n  %s\n", c.Check, c.About, c.Detail)
		}
	}
	for _, group := range []struct {
		result bitbucket.Result
		title  string
	}{{bitbucket.Passed, "passed"}, {bitbucket.NotReached, "not checked"}} {
		if names := by[group.result]; len(names) > 0 {
			fmt.Fprintf(b, "\n%s: %s\n", group.title, strings.Join(names, ", "))
		}
	}
}
