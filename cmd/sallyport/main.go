// Command sallyport is the identity-aware egress proxy for Bitbucket Pipelines, and its
// command-line tool for operators, policy authors and auditors.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/auditcmd"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/configcmd"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/controlcmd"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/policycmd"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/servecmd"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/verifycmd"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/webhookcmd"
	"github.com/sallyport/sallyport/policy/rego"
)

// version and commit are set by the linker.
var version, commit string

func main() {
	rego.ServeWorker() // does not return in a policy worker
	cli.SetVersion(version)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run executes one command line and returns the exit status.
func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	err := root.ExecuteContext(ctx)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("interrupted by a signal: %w", err)
	}
	return exitOf(err, errOut)
}

// helpWidth is the width of the help text of flags, in columns.
const helpWidth = 100

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "sallyport",
		Short: "Identity-aware egress proxy for Bitbucket Pipelines",
		Long: `Sallyport is an identity-aware egress proxy for Bitbucket Pipelines.

A step sets HTTPS_PROXY to Sallyport's address. Sallyport validates the step's OIDC token,
evaluates the policy for its repository and deployment, and writes the decision
to the audit log before a connection is opened.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       cli.Version(),
		Args:          cli.NoArguments,
		RunE:          cli.Help,
	}
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), "FlagUsages", fmt.Sprintf("FlagUsagesWrapped %d", helpWidth)))
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return cli.Invalid(fmt.Errorf("%w%s\nsee: %s --help", err, suggestFlag(c, err), c.CommandPath()))
	})
	auditLog, policies := auditcmd.New(), policycmd.New()
	auditLog.AddCommand(verifycmd.NewVerify(), verifycmd.NewExport(), verifycmd.NewEvidence())
	policies.AddCommand(controlcmd.NewPolicyReload())
	root.AddCommand(servecmd.NewServe(), servecmd.NewHealth(), servecmd.NewMigrate(), configcmd.New(), auditLog, policies, controlcmd.NewToken(), controlcmd.NewTunnels(), controlcmd.NewEmergencyStop(), controlcmd.NewDebug(), webhookcmd.New(), newVersion())
	documentExits(root)
	return root
}

// suggestFlag returns a hint with the known flag that is most similar to an unknown flag,
// or an empty string.
func suggestFlag(c *cobra.Command, err error) string {
	unknown, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok || len(unknown.GetSpecifiedName()) < 2 {
		return ""
	}
	var names []string
	c.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	if near := cli.Nearest(unknown.GetSpecifiedName(), names); near != "" {
		return ": did you mean --" + near + "?"
	}
	return ""
}
