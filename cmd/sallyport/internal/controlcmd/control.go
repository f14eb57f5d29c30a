package controlcmd

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/admin"
	"github.com/sallyport/sallyport/internal/printable"
)

// controlUsage ends the help of every command that speaks to a running instance.
const controlUsage = `
It speaks to the instance that runs on this machine with the configuration's
data_directory, through the control socket there, which is open to root and to
the user that the instance runs as. Who did what is in the audit log, as an
event of kind admin.`

// controlled makes a command that speaks to a running instance.
func controlled(c *cobra.Command, do func(*cobra.Command, *admin.ControlClient, []string) error) *cobra.Command {
	path := cli.AddConfigFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		cfg, _, err := cli.LoadConfig(*path)
		if err != nil {
			return err
		}
		err = do(c, admin.NewControlClient(cfg.DataDirectory), args)
		if m, ok := errors.AsType[*admin.Mistake](err); ok {
			return cli.Invalid(m)
		}
		return err
	}
	return c
}

func addReasonFlag(c *cobra.Command) *string {
	return c.Flags().String("reason", "", "the operator's reason, as `TEXT` for the audit log")
}

// checkReason is for what ends the work of others: who reads the log later has to
// learn why.
func checkReason(c *cobra.Command, reason string) error {
	if strings.TrimSpace(reason) == "" {
		return cli.Invalid(fmt.Errorf("--reason TEXT is needed: it is recorded in the audit log\nsee: %s --help", c.CommandPath()))
	}
	return nil
}

// NewPolicyReload makes `sallyport policy reload`.
func NewPolicyReload() *cobra.Command {
	c := &cobra.Command{
		Use:   "reload",
		Short: "Have a running instance poll its policy source now",
		Long: `Have a running instance poll its policy source at once. If the new
policy is rejected, the active revision stays in force.
` + controlUsage,
		Args: cli.NoArguments,
	}
	return controlled(c, func(c *cobra.Command, client *admin.ControlClient, _ []string) error {
		state, err := client.ReloadPolicy(c.Context())
		if err != nil {
			return err
		}
		change := "as before"
		if state.Changed {
			change = "new"
		}
		fmt.Fprintf(c.OutOrStdout(), "%s decides, %s\n", state.Revision, change)
		if state.Pending > 0 {
			fmt.Fprintf(c.OutOrStdout(), "the changed policies of %s are not checked yet, and their earlier rules are in force: %s\n", printable.Count(state.Pending, "repository"), state.PendingRepositories)
		}
		if state.LastReloadError != "" {
			return fmt.Errorf("the current policy was rejected:\n%s", state.LastReloadError)
		}
		return nil
	})
}
