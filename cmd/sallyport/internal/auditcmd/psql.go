package auditcmd

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/auditdb"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgembed"
)

func newPsql() *cobra.Command {
	c := &cobra.Command{
		Use:   "psql [--config FILE] [--role writer|auditor] [psql's own arguments]",
		Short: "Open psql on the audit log",
		Long: `Open psql on the configured or embedded audit log. Everything but --config and
--role is psql's own: -c is its command, not the configuration.

  sallyport audit psql -c 'select * from audit.decisions'
  sallyport audit psql --role auditor --csv -f report.sql

With the embedded database --role picks the role to log in as; with a database of
yours it becomes the session's role, of which the login has to be a member.`,
		// psql's flags are not ours to know.
		DisableFlagParsing: true,
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		o, err := parsePsql(args)
		if err != nil {
			return cli.Invalid(err)
		}
		if o.help {
			return c.Help()
		}
		return psql(c, o)
	}
	return c
}

type psqlOptions struct {
	config string
	as     string // the database's role, empty for the login's own
	help   bool
	rest   []string
}

// parsePsql takes our two flags out and leaves everything else to psql.
func parsePsql(args []string) (psqlOptions, error) {
	var o psqlOptions
	for i := 0; i < len(args); i++ {
		name, value, joined := strings.Cut(args[i], "=")
		if name != "--config" && name != "--role" {
			o.help = o.help || args[i] == "--help" || args[i] == "-h" && len(args) == 1
			o.rest = append(o.rest, args[i])
			continue
		}
		if !joined {
			if i+1 == len(args) {
				return o, fmt.Errorf("%s needs a value", name)
			}
			i++
			value = args[i]
		}
		if name == "--config" {
			o.config = value
			continue
		}
		if err := cli.OneOf("--role", value, slices.Sorted(maps.Keys(auditdb.Roles))); err != nil {
			return o, err
		}
		o.as = auditdb.Roles[value]
	}
	return o, nil
}

func psql(c *cobra.Command, o psqlOptions) error {
	cfg, _, err := cli.LoadConfig(o.config)
	if err != nil {
		return err
	}
	program, err := pgembed.Psql(c.Context(), "")
	if err != nil {
		return err
	}
	uri, env, done, err := auditdb.Connection(c.Context(), cfg, o.as)
	if err != nil {
		return err
	}
	defer done()
	if o.as != "" && !cfg.Audit.Embedded {
		text, err := cfg.Audit.Database.Read()
		if err != nil {
			return cli.Invalid(err)
		}
		if err := database.CheckRole(c.Context(), text, o.as); err != nil {
			return err
		}
		rc, remove, err := psqlStart(o.as, o.rest)
		if err != nil {
			return err
		}
		defer remove()
		env = append(env, "PSQLRC="+rc)
		o.rest = withoutNoStart(o.rest)
	}
	// psql takes an interrupt for itself: it ends a query and not the session.
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt)
	defer signal.Stop(interrupts)
	cmd := exec.Command(program, append([]string{uri}, o.rest...)...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.InOrStdin(), c.OutOrStdout(), c.ErrOrStderr()
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Exited() {
		return cli.ProgramError{Status: exit.ExitCode()}
	}
	return err
}

// psqlStart writes the file that psql runs first: it takes the role, after connecting,
// since poolers refuse startup parameters; then it runs the user's own, unless the
// arguments have -X. The auditor's session is read-only.
func psqlStart(role string, args []string) (path string, remove func(), err error) {
	f, err := os.CreateTemp("", "sallyport-psqlrc-") // 0600
	if err != nil {
		return "", nil, err
	}
	remove = func() { _ = os.Remove(f.Name()) }
	settings := "set_config('role', '" + role + "', false), set_config('search_path', 'pg_catalog, pg_temp', false)"
	if role == auditdb.Roles["auditor"] {
		settings += ", set_config('default_transaction_read_only', 'on', false)"
	}
	text := "SELECT " + settings + " \\g /dev/null\n"
	if own := os.Getenv("PSQLRC"); own == "" && !slices.ContainsFunc(args, noStart) {
		if home, err := os.UserHomeDir(); err == nil {
			own = filepath.Join(home, ".psqlrc")
		}
		if _, err := os.Stat(own); err == nil {
			text += "\\i '" + strings.ReplaceAll(own, "'", "''") + "'\n"
		}
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close()); err != nil {
		remove()
		return "", nil, err
	}
	return f.Name(), remove, nil
}

// noStart is psql's flag that runs no file first: -X, --no-psqlrc.
func noStart(arg string) bool { return arg == "-X" || arg == "--no-psqlrc" }

func withoutNoStart(args []string) []string { return slices.DeleteFunc(slices.Clone(args), noStart) }
