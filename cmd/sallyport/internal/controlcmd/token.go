package controlcmd

import (
	"cmp"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/admin"
	"github.com/sallyport/sallyport/internal/printable"
)

// NewToken makes `sallyport token`.
func NewToken() *cobra.Command {
	parent := &cobra.Command{Use: "token", Short: "Inspect tokens, and revoke steps", Args: cli.NoArguments, RunE: cli.Help}
	parent.AddCommand(newInspect(), newRevoke(), newRevocations(), newUnrevoke())
	return parent
}

// subjectFlags name whom a revocation is of.
func subjectFlags(c *cobra.Command) *admin.Subject {
	s := new(admin.Subject)
	c.Flags().StringVar(&s.Step, "step", "", "the step's `UUID`")
	c.Flags().StringVar(&s.Repository, "repository", "", "the repository's `UUID` or workspace/name")
	return s
}

// checkSubject reports early the errors that the instance would report too.
func checkSubject(c *cobra.Command, s *admin.Subject) error {
	if (s.Step == "") == (s.Repository == "") {
		return cli.Invalid(fmt.Errorf("name one of --step and --repository\nsee: %s --help", c.CommandPath()))
	}
	return nil
}

func newRevoke() *cobra.Command {
	c := &cobra.Command{
		Use:   "revoke {--step UUID | --repository UUID|WORKSPACE/NAME} --reason TEXT",
		Short: "Revoke a step, or every step of a repository, in every instance",
		Long: `End a step, or every step of a repository: every running instance that shares the
database refuses it with credential_revoked, and closes what it has open. A
repository's steps that begin later are refused too. The command ends
once every instance that is connected to the database has confirmed that.

It holds for the time of --for, or until "token unrevoke". Tokens that
were admitted before are never accepted after their end, even when the revocation has ended.
` + controlUsage,
		Args: cli.NoArguments,
	}
	s, reason := subjectFlags(c), addReasonFlag(c)
	duration := c.Flags().Duration("for", 24*time.Hour, "how long, as `DURATION`; longer than a token lives")
	return controlled(c, func(c *cobra.Command, client *admin.ControlClient, _ []string) error {
		if err := checkSubject(c, s); err != nil {
			return err
		}
		if err := checkReason(c, *reason); err != nil {
			return err
		}
		r, err := client.Revoke(c.Context(), admin.RevokeRequest{Subject: *s, For: *duration, Reason: *reason})
		if err != nil {
			return err
		}
		subject := r.UUID
		if r.Name != "" {
			subject = r.Name + " (" + r.UUID + ")"
		}
		if _, err = fmt.Fprintf(c.OutOrStdout(), "%s %s is revoked until %s; closed %d here\n", r.Scope, subject, cli.FormatTime(r.Until), r.Closed); err != nil {
			return err
		}
		if r.Unconfirmed != "" {
			return fmt.Errorf("revoke %s %s: %s", r.Scope, r.UUID, r.Unconfirmed)
		}
		if r.Name == "" && r.Scope == "repository" {
			_, err = fmt.Fprintln(c.ErrOrStderr(), "its name is not known here: compare the UUID with repository_uuid in the audit log")
		}
		return err
	})
}

func newUnrevoke() *cobra.Command {
	c := &cobra.Command{
		Use:   "unrevoke {--step UUID | --repository UUID|WORKSPACE/NAME}",
		Short: "Lift revocations of a step or a repository",
		Long: `Lift every revocation of a step or a repository, in every instance. A step whose
repository is revoked stays revoked.
` + controlUsage,
		Args: cli.NoArguments,
	}
	s, reason := subjectFlags(c), addReasonFlag(c)
	return controlled(c, func(c *cobra.Command, client *admin.ControlClient, _ []string) error {
		if err := checkSubject(c, s); err != nil {
			return err
		}
		r, err := client.Unrevoke(c.Context(), admin.UnrevokeRequest{Subject: *s, Reason: *reason})
		switch {
		case err != nil:
			return err
		case r.Lifted == 0:
			return fmt.Errorf("%s %s is not revoked: see `sallyport token revocations`", r.Scope, r.UUID)
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s %s: %s lifted\n", r.Scope, r.UUID, printable.Count(r.Lifted, "revocation"))
		return err
	})
}

func newRevocations() *cobra.Command {
	c := &cobra.Command{
		Use:   "revocations",
		Short: "List the revocations in force",
		Long:  "List the revocations in force, in every instance that shares the database.\n" + controlUsage,
		Args:  cli.NoArguments,
	}
	asJSON := cli.AddFormatFlag(c)
	return controlled(c, func(c *cobra.Command, client *admin.ControlClient, _ []string) error {
		list, err := client.Revocations(c.Context())
		if err != nil {
			return err
		}
		if asJSON() {
			return cli.PrintJSON(c.OutOrStdout(), list)
		}
		return cli.PrintTable(c.OutOrStdout(), "WHAT\tUUID\tNAME\tSINCE\tUNTIL\tOPERATOR	REASON", func(row func(string, ...any)) {
			for _, r := range list {
				row("%s\t%s\t%s\t%s\t%s\t%s\t%q", r.Scope, r.UUID, cmp.Or(r.Name, "-"), cli.FormatTime(r.Since), cli.FormatTime(r.Until), r.By, r.Reason)
			}
		})
	})
}
