package webhookcmd

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/admin"
)

// instanceUsage ends the help of every command that connects to a running instance.
const instanceUsage = `
The command connects to the instance that runs on this machine with the configuration's
data_directory, as root or as the instance's user. The audit log has the operation as an
event of kind admin.`

// newAgentCredential makes `sallyport webhook agent-credential`.
func newAgentCredential() *cobra.Command {
	parent := &cobra.Command{Use: "agent-credential", Short: "Create, list and revoke the credentials of agents", Args: cli.NoArguments, RunE: cli.Help}
	parent.AddCommand(newCredentialCreate(), newCredentialList(), newCredentialRevoke())
	return parent
}

// withInstance makes a command that connects to a running instance.
func withInstance(c *cobra.Command, do func(*cobra.Command, *admin.ControlClient, []string) error) *cobra.Command {
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

func newCredentialCreate() *cobra.Command {
	c := &cobra.Command{
		Use:   "create --endpoint NAME",
		Short: "Create a credential for an agent of an endpoint",
		Long: `Create a credential for an agent of one endpoint with agent: true, and print it once.
Write it into a file that only the agent's user can read (umask 077). Only its digest is
stored.
` + instanceUsage,
		Args: cli.NoArguments,
	}
	endpoint := c.Flags().String("endpoint", "", "the `NAME` of the endpoint")
	description := c.Flags().String("description", "", "`TEXT` for the list of credentials, such as the agent's machine")
	return withInstance(c, func(c *cobra.Command, client *admin.ControlClient, _ []string) error {
		if *endpoint == "" {
			return cli.Invalid(fmt.Errorf("--endpoint is needed\nsee: %s --help", c.CommandPath()))
		}
		made, err := client.CreateAgentCredential(c.Context(), admin.AgentCredentialRequest{Endpoint: *endpoint, Description: *description})
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(c.OutOrStdout(), made.Credential)
		_, _ = fmt.Fprintf(c.ErrOrStderr(), "credential %s for endpoint %s; it is not shown again\n", made.ID, made.Endpoint)
		return err
	})
}

func newCredentialList() *cobra.Command {
	c := &cobra.Command{
		Use:   "list",
		Short: "List the credentials of agents",
		Long:  "List the credentials of agents, revoked ones included, without their secrets.\n" + instanceUsage,
		Args:  cli.NoArguments,
	}
	asJSON := cli.AddFormatFlag(c)
	return withInstance(c, func(c *cobra.Command, client *admin.ControlClient, _ []string) error {
		list, err := client.AgentCredentials(c.Context())
		if err != nil {
			return err
		}
		if asJSON() {
			return cli.PrintJSON(c.OutOrStdout(), list)
		}
		return cli.PrintTable(c.OutOrStdout(), "ID\tENDPOINT\tCREATED\tLAST USED\tREVOKED\tDESCRIPTION", func(row func(string, ...any)) {
			for _, a := range list {
				row("%s\t%s\t%s\t%s\t%s\t%s", a.ID, a.Endpoint, cli.FormatTime(a.CreatedAt), timeOrDash(a.LastUsedAt), timeOrDash(a.RevokedAt), cmp.Or(a.Description, "-"))
			}
		})
	})
}

func timeOrDash(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return cli.FormatTime(*t)
}

func newCredentialRevoke() *cobra.Command {
	c := &cobra.Command{
		Use:   "revoke ID --reason TEXT",
		Short: "Revoke a credential of an agent",
		Long:  "Revoke a credential in every instance. A delivery that its agent holds is sent again by\nanother agent once the lease has expired.\n" + instanceUsage,
		Args:  oneArgument("the id of a credential"),
	}
	reason := c.Flags().String("reason", "", "the operator's reason, as `TEXT` for the audit log")
	return withInstance(c, func(c *cobra.Command, client *admin.ControlClient, args []string) error {
		if strings.TrimSpace(*reason) == "" {
			return cli.Invalid(fmt.Errorf("--reason TEXT is needed: it is recorded in the audit log\nsee: %s --help", c.CommandPath()))
		}
		revoked, err := client.RevokeAgentCredential(c.Context(), admin.AgentCredentialRevocation{ID: args[0], Reason: *reason})
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "credential %s of endpoint %s is revoked\n", revoked.ID, revoked.Endpoint)
		return err
	})
}
