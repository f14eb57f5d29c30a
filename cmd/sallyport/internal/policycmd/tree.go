package policycmd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/printable"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/manager"
	"github.com/sallyport/sallyport/policy/rego"
)

func newPolicyCheck() *cobra.Command {
	c := &cobra.Command{
		Use:   "check DIR",
		Short: "Check a policy as a server does",
		Long: `Compile the policy in DIR and report every error and every warning, with file and
line. A note explains what each allow gives up that relaxes the check of the
ClientHello. Tests are not run: see "policy test".`,
		Args: oneDirectory,
	}
	withoutNames := c.Flags().Bool("without-names", false, withoutNamesUsage)
	strict := c.Flags().Bool("strict", false, "warnings fail the check too")
	repositories := c.Flags().String("repositories", "", "a `FILE` with the full names of all repositories, one a line: a policy that names another is an error")
	configuration := c.Flags().StringP("config", "c", "", "a server's configuration `FILE`: rules that name another receiver or endpoint of deliveries are errors")
	asJSON := cli.AddFormatFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		snapshot, err := policyTree(c.Context(), args[0])
		if err != nil {
			return err
		}
		options := rego.Options{Names: !*withoutNames}
		if *repositories != "" {
			if options.Repositories, err = repositoryNames(c.Context(), *repositories); err != nil {
				return cli.Invalid(err)
			}
		}
		var ignored rego.Errors
		if *configuration != "" {
			if options.Webhooks, ignored, err = checkedWebhooks(*configuration, snapshot); err != nil {
				return err
			}
		}
		problems, warnings, err := rego.Check(c.Context(), snapshot, options)
		if err != nil {
			return err
		}
		for _, w := range warnings {
			if namesUnknown(w) {
				problems = append(problems, w)
			}
		}
		warnings = append(slices.DeleteFunc(warnings, namesUnknown), slices.Concat(rego.Undelegated(snapshot), ignored)...)
		notes := rego.Relaxations(snapshot)
		out := c.OutOrStdout()
		failed := len(problems) > 0 || *strict && len(warnings) > 0
		if asJSON() {
			all := append(problemsJSON(args[0], "error", problems), problemsJSON(args[0], "warning", warnings)...)
			result := checkJSON{args[0], !failed, len(snapshot.Files), append(all, problemsJSON(args[0], "note", notes)...)}
			return cli.PrintFinding(out, result, failed)
		}
		printPolicyErrors(out, args[0], "", problems)
		printPolicyErrors(out, args[0], "warning: ", warnings)
		printPolicyErrors(out, args[0], "note: ", notes)
		if failed {
			return fmt.Errorf("%s: %s, %s", args[0], printable.Count(len(problems), "error"), printable.Count(len(warnings), "warning"))
		}
		_, err = fmt.Fprintf(out, "%s: accepted, %s, %s\n", args[0], printable.Count(len(snapshot.Files), "file"), printable.Count(len(warnings), "warning"))
		return err
	}
	return c
}

// checkedWebhooks returns the names that a configuration has for deliveries, and warnings
// about its actions that have no effect with a policy.
func checkedWebhooks(configuration string, snapshot *policy.Snapshot) (*rego.WebhookNames, rego.Errors, error) {
	cfg, _, err := cli.LoadConfig(configuration)
	if err != nil {
		return nil, nil, err
	}
	if cfg.Webhooks == nil {
		return &rego.WebhookNames{}, nil, nil
	}
	return manager.WebhookNames(cfg), rego.IgnoredActions(snapshot, cfg.Webhooks.Routes()), nil
}

// namesUnknown reports whether a warning is an error of this command: the lists of names
// are given to find it.
func namesUnknown(e rego.Error) bool {
	return rego.NamesUnknownRepository(e) || rego.NamesUnknownWebhook(e)
}

func newPolicyTest() *cobra.Command {
	c := &cobra.Command{
		Use:   "test DIR",
		Short: "Run a policy's own tests",
		Long: `Run the *_test.rego files of the policy in DIR as a server does before it takes a
revision: compiled with the same restrictions, the organization's and each
repository's apart.`,
		Args: oneDirectory,
	}
	withoutNames := c.Flags().Bool("without-names", false, withoutNamesUsage)
	verbose := c.Flags().BoolP("verbose", "v", false, "show every test and what it printed")
	outputs := addTestOutputs(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		snapshot, err := policyTree(c.Context(), args[0])
		if err != nil {
			return err
		}
		report, err := rego.Test(c.Context(), snapshot, rego.Options{Names: !*withoutNames})
		if faults, ok := errors.AsType[rego.Errors](err); ok {
			if outputs.asJSON() {
				return cli.PrintFinding(c.OutOrStdout(), testsJSON{Directory: args[0], Tests: []testJSON{}, Problems: problemsJSON(args[0], "error", faults)}, true)
			}
			printPolicyErrors(c.OutOrStdout(), args[0], "", faults)
			return fmt.Errorf("%s does not load", args[0])
		}
		if err != nil {
			return err
		}
		return outputs.write(c.OutOrStdout(), args[0], report, *verbose)
	}
	return c
}

// repositoryAbove is the directory of the policy repository of which a directory is one
// of the folders; empty if it is not one.
func repositoryAbove(directory string) string {
	full, err := filepath.Abs(directory)
	if err != nil {
		return ""
	}
	switch filepath.Base(full) {
	case "egress", "webhook", "repositories", "data":
	default:
		return ""
	}
	above := filepath.Dir(full)
	if _, err := os.Stat(filepath.Join(directory, "egress")); err == nil || !holdsPolicy(above) {
		return ""
	}
	return above
}
