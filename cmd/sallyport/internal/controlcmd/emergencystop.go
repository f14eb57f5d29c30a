package controlcmd

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/admin"
)

// NewEmergencyStop makes `sallyport emergency-stop`.
func NewEmergencyStop() *cobra.Command {
	c := &cobra.Command{
		Use:   "emergency-stop {--reason TEXT | --lift}",
		Short: "Refuse every request and close every tunnel, or lift that",
		Long: `Refuse every request of a running instance with 503 emergency_stop, and close all
tunnels and requests, until "emergency-stop --lift". A restart does not lift the
stop: the file emergency-stop.json in data_directory keeps it. /readyz of the
instance is 503 meanwhile, with the reason.

The stop applies to one instance and needs no database. Run it for each instance.
A stop that cannot be recorded takes effect; a lift that cannot
be recorded does not.
` + controlUsage,
		Args: cli.NoArguments,
	}
	reason := addReasonFlag(c)
	lift := c.Flags().Bool("lift", false, "lift the stop")
	return controlled(c, func(c *cobra.Command, client *admin.ControlClient, _ []string) error {
		if *lift {
			return liftStop(c, client, *reason)
		}
		if err := checkReason(c, *reason); err != nil {
			return err
		}
		s, err := client.EmergencyStop(c.Context(), admin.StopRequest{Reason: *reason})
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "stopped; closed %d\n", s.Closed)
		if len(s.Warnings) > 0 {
			return errors.Join(err, fmt.Errorf("the instance is stopped, but: %s", strings.Join(s.Warnings, "; ")))
		}
		return err
	})
}

func liftStop(c *cobra.Command, client *admin.ControlClient, reason string) error {
	r, err := client.LiftEmergencyStop(c.Context(), admin.StopRequest{Reason: reason})
	if err != nil {
		return err
	}
	if r.Was == nil {
		_, err = fmt.Fprintln(c.OutOrStdout(), "no emergency stop was on")
	} else {
		_, err = fmt.Fprintf(c.OutOrStdout(), "lifted; stopped since %s by %s\n", cli.FormatTime(r.Was.Since), r.Was.By)
	}
	return err
}
