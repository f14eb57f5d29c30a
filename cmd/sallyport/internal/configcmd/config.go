package configcmd

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/components"
	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/internal/printable"
	"github.com/sallyport/sallyport/policy"
)

// New makes `sallyport config`.
func New() *cobra.Command {
	parent := &cobra.Command{Use: "config", Short: "Check the configuration", Args: cli.NoArguments, RunE: cli.Help}
	parent.AddCommand(newConfigCheck())
	return parent
}

func newConfigCheck() *cobra.Command {
	c := &cobra.Command{
		Use:   "check",
		Short: "Check a configuration without starting the server",
		Long: `Check a configuration as "serve" does before it starts anything: the file, the
files that it names, and the policy in policy.directory, which is loaded and
tested. It has to run as the server's user, with the server's environment.

A rule or receiver that names an endpoint or a resource which is not configured is
an error; an endpoint or a resource that nothing uses is a warning.

With --online it also connects: to the database (login, privileges, schema, clock),
the issuers (keys, clock), Bitbucket's API (access token and its scopes, workspace,
repositories of receivers), the policy's Git server, the resolver, and upstream proxies, of which it asks for a
tunnel to the issuer. It changes nothing anywhere. An embedded database that does
not run is not started.`,
		Args: cli.NoArguments,
	}
	path := cli.AddConfigFlag(c)
	online := c.Flags().Bool("online", false, "connect to everything that the configuration names")
	asJSON := cli.AddFormatFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, name, err := cli.LoadConfigWith(*path, config.Load)
		if err != nil {
			return err
		}
		if err := components.Validate(cfg); err != nil {
			return err
		}
		report := &checkReport{}
		if asJSON() {
			for _, w := range cfg.Warnings() {
				report.warn("configuration", w.String())
			}
		} else {
			printWarnings(c.ErrOrStderr(), cfg)
			report.out = c.OutOrStdout()
		}
		checkCertificates(report, cfg)
		checkStepBinaries(report, cfg)
		var snapshot *policy.Snapshot
		reads := cfg.Policy.Git == nil || *online
		if reads {
			snapshot = checkPolicy(c.Context(), report, cfg, *online)
		}
		if !reads || snapshot != nil {
			checkWebhooks(report, cfg.Webhooks, snapshot)
		}
		if *online {
			checkReceiverRepositories(c.Context(), report, cfg, nil)
			checkOnline(c.Context(), report, cfg)
		}
		if asJSON() {
			result := checkJSON{name, report.failed == 0, report.results}
			if err := cli.PrintJSON(c.OutOrStdout(), result); err != nil {
				return err
			}
		}
		if report.failed > 0 {
			err := fmt.Errorf("%s: %d of %s failed", name, report.failed, printable.Count(report.made, "check"))
			if report.wrong {
				err = cli.Invalid(err)
			}
			return err
		}
		if asJSON() {
			return nil
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s: accepted\n", name)
		return err
	}
	return c
}

// checkJSON is the result of `config check`. Its exit status distinguishes a wrong
// configuration from a failure.
type checkJSON struct {
	Configuration string        `json:"configuration"`
	Accepted      bool          `json:"accepted"`
	Checks        []checkResult `json:"checks"`
}

func printWarnings(w io.Writer, cfg *config.Config) {
	for _, warning := range cfg.Warnings() {
		fmt.Fprintf(w, "warning: %v\n", warning)
	}
}
