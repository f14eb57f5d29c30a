package servecmd

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/auditdb"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/logging"
	"github.com/sallyport/sallyport/internal/database"
)

// NewMigrate makes `sallyport migrate`.
func NewMigrate() *cobra.Command {
	c := &cobra.Command{
		Use:   "migrate",
		Short: "Migrate the schema of the audit log",
		Long: `Bring the audit log's schema up to this version, with the login that
audit.migration_url_file names. Servers of this version and the one before may go
on writing meanwhile.

The roles sallyport_owner, sallyport_writer, sallyport_sealer and sallyport_auditor are made where
the login may make them. Where it may not, as on a managed PostgreSQL, an
administrator runs what --print-roles prints once, before.`,
		Args: cli.NoArguments,
	}
	path := cli.AddConfigFlag(c)
	printRoles := c.Flags().Bool("print-roles", false, "print the SQL that makes the roles, and do nothing")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if *printRoles {
			_, err := fmt.Fprint(c.OutOrStdout(), database.PrintRoles())
			return err
		}
		cfg, _, err := cli.LoadConfig(*path)
		if err != nil {
			return err
		}
		if cfg.Audit.Embedded {
			_, err := fmt.Fprintln(c.OutOrStdout(), "audit.embedded is true: `sallyport serve` brings the schema of its own database up when it starts; there is nothing to do")
			return err
		}
		url, err := auditdb.MigrationURL(cfg)
		if err != nil {
			return err
		}
		from, to, err := database.Migrate(c.Context(), url, logging.New(cfg.Log, c.ErrOrStderr()))
		if err != nil {
			return err
		}
		if from == to {
			_, err = fmt.Fprintf(c.OutOrStdout(), "the schema is at version %d already\n", to)
		} else {
			_, err = fmt.Fprintf(c.OutOrStdout(), "the schema went from version %d to %d\n", from, to)
		}
		return err
	}
	return c
}
