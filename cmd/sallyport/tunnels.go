package main

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/internal/admin"
)

func newTunnels() *cobra.Command {
	parent := &cobra.Command{Use: "tunnels", Short: "See and close what is open, or stop everything", Args: noArguments, RunE: help}
	parent.AddCommand(newTunnelsList(), newTunnelsClose(), newStopAll(), newResume())
	return parent
}

func newTunnelsList() *cobra.Command {
	c := &cobra.Command{
		Use:   "list",
		Short: "List the open tunnels of a running instance, the oldest first",
		Long:  "List the open tunnels of a running instance, the oldest first.\n" + controlUsage,
		Args:  noArguments,
	}
	asJSON := c.Flags().Bool("json", false, "print JSON")
	return controlled(c, func(c *cobra.Command, client *admin.ControlClient, _ []string) error {
		list, err := client.Tunnels(c.Context())
		if err != nil {
			return err
		}
		out := c.OutOrStdout()
		if *asJSON {
			return printJSON(out, list)
		}
		if s := list.Stop; s != nil {
			fmt.Fprintf(c.ErrOrStderr(), "an emergency stop is on since %s, by %s: %s\n", moment(s.Since), s.By, cmp.Or(s.Why, "no reason was given"))
		}
		return printTable(out, "ID\tSINCE\tREPOSITORY\tDEPLOYMENT\tTARGET\tSENT\tRECEIVED", func(row func(string, ...any)) {
			for _, t := range list.Tunnels {
				row("%s\t%s\t%s\t%s\t%s\t%d\t%d", t.ID, moment(t.Since), cmp.Or(t.Repository, t.RepositoryUUID), cmp.Or(t.Deployment, "-"), t.Target, t.Sent, t.Received)
			}
		})
	})
}

func newTunnelsClose() *cobra.Command {
	c := &cobra.Command{
		Use:   "close ID...",
		Short: "Close tunnels of a running instance",
		Long: `Close tunnels of a running instance by the ids that "tunnels list" shows. The
step may open them again: see "token revoke". The exit status is 1 where one was
not open.
` + controlUsage,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return invalid{fmt.Errorf("which tunnels?\nsee: %s --help", c.CommandPath())}
			}
			return nil
		},
	}
	reason := addReasonFlag(c)
	return controlled(c, func(c *cobra.Command, client *admin.ControlClient, args []string) error {
		closed, err := client.CloseTunnels(c.Context(), admin.CloseRequest{IDs: args, Why: *reason})
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

func newStopAll() *cobra.Command {
	c := &cobra.Command{
		Use:   "stop-all --reason TEXT",
		Short: "Emergency stop: refuse everything and close everything",
		Long: `Emergency stop: a running instance answers everything with 503 emergency_stop,
and closes every tunnel and request that is open, until "tunnels resume". A
restart does not lift it: the file emergency-stop.json in data_directory keeps it.
/readyz of the instance is 503 meanwhile, with the reason.

It stops one instance, needs no database for it, and has to be given to each.
The exit status is 1 where the instance is stopped and something besides did not
work, such as writing it down.
` + controlUsage,
		Args: noArguments,
	}
	reason := addReasonFlag(c)
	return controlled(c, func(c *cobra.Command, client *admin.ControlClient, _ []string) error {
		if err := checkReason(c, *reason); err != nil {
			return err
		}
		s, err := client.StopAll(c.Context(), admin.StopRequest{Why: *reason})
		if err != nil {
			return err
		}
		fmt.Fprintf(c.OutOrStdout(), "stopped; closed %d\n", s.Closed)
		if len(s.Warnings) > 0 {
			return fmt.Errorf("everything is stopped, but: %s", strings.Join(s.Warnings, "; "))
		}
		return nil
	})
}

func newResume() *cobra.Command {
	c := &cobra.Command{
		Use:   "resume",
		Short: "Lift the emergency stop",
		Long:  "Lift the emergency stop of a running instance.\n" + controlUsage,
		Args:  noArguments,
	}
	reason := addReasonFlag(c)
	return controlled(c, func(c *cobra.Command, client *admin.ControlClient, _ []string) error {
		r, err := client.Resume(c.Context(), admin.StopRequest{Why: *reason})
		if err != nil {
			return err
		}
		if r.Was == nil {
			_, err = fmt.Fprintln(c.OutOrStdout(), "nothing was stopped")
		} else {
			_, err = fmt.Fprintf(c.OutOrStdout(), "resumed; stopped since %s by %s\n", moment(r.Was.Since), r.Was.By)
		}
		return err
	})
}
