package controlcmd

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/admin"
)

// NewTunnels makes `sallyport tunnels`.
func NewTunnels() *cobra.Command {
	parent := &cobra.Command{Use: "tunnels", Short: "List and close open tunnels", Args: cli.NoArguments, RunE: cli.Help}
	parent.AddCommand(newTunnelsList(), newTunnelsClose())
	return parent
}

func newTunnelsList() *cobra.Command {
	c := &cobra.Command{
		Use:   "list",
		Short: "List the open tunnels of a running instance, the oldest first",
		Long:  "List the open tunnels of a running instance, the oldest first.\n" + controlUsage,
		Args:  cli.NoArguments,
	}
	asJSON := cli.AddFormatFlag(c)
	return controlled(c, func(c *cobra.Command, client *admin.ControlClient, _ []string) error {
		list, err := client.Tunnels(c.Context())
		if err != nil {
			return err
		}
		out := c.OutOrStdout()
		if asJSON() {
			return cli.PrintJSON(out, list)
		}
		if s := list.Stop; s != nil {
			fmt.Fprintf(c.ErrOrStderr(), "an emergency stop is on since %s, by %s: %s\n", cli.FormatTime(s.Since), s.By, cmp.Or(s.Reason, "no reason was given"))
		}
		return cli.PrintTable(out, "ID\tSINCE\tREPOSITORY\tDEPLOYMENT\tTARGET\tSENT\tRECEIVED", func(row func(string, ...any)) {
			for _, t := range list.Tunnels {
				row("%s\t%s\t%s\t%s\t%s\t%d\t%d", t.ID, cli.FormatTime(t.Since), cmp.Or(t.Repository, t.RepositoryUUID), cmp.Or(t.Deployment, "-"), t.Target, t.Sent, t.Received)
			}
		})
	})
}

func newTunnelsClose() *cobra.Command {
	c := &cobra.Command{
		Use:   "close ID...",
		Short: "Close tunnels of a running instance",
		Long: `Close tunnels of a running instance by the ids that "tunnels list" shows. The
step may open them again: see "token revoke".
` + controlUsage,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cli.Invalid(fmt.Errorf("which tunnels?\nsee: %s --help", c.CommandPath()))
			}
			return nil
		},
	}
	reason := addReasonFlag(c)
	return controlled(c, func(c *cobra.Command, client *admin.ControlClient, args []string) error {
		closed, err := client.CloseTunnels(c.Context(), admin.CloseRequest{IDs: args, Reason: *reason})
		if err != nil {
			return err
		}
		fmt.Fprintf(c.OutOrStdout(), "closed %d\n", closed.Closed)
		if len(closed.Unknown) > 0 {
			return fmt.Errorf("not open: %s", strings.Join(closed.Unknown, " "))
		}
		return nil
	})
}
