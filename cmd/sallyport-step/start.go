package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/step/session"
	"github.com/sallyport/sallyport/step/shell"
	"github.com/sallyport/sallyport/step/toolconfig"
)

// starter is one run of start.
type starter struct {
	options
	toolFlags
	unsetToken bool
	out        io.Writer
	errOut     io.Writer
}

func newStart() *cobra.Command {
	s := &starter{}
	c := &cobra.Command{
		Use:   "start --proxy URL",
		Short: "Start the forwarder, and print a shell script that configures the step",
		Long: `Start the forwarder, and print a shell script that configures the step.

  eval "$(sallyport-step start --proxy https://egress.example:3129 || echo false)"

The forwarder runs until stop. start changes the files of tools that do not read the
environment; stop restores them. A second start with the same options keeps the forwarder.
If start fails, the script reports the cause, sets the proxy variables to a closed port and
ends with false.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			s.out, s.errOut = c.OutOrStdout(), c.ErrOrStderr()
			return s.run(c.Context())
		},
	}
	s.addUpstream(c)
	s.addForwarder(c)
	s.toolFlags.add(c)
	f := c.Flags()
	f.BoolVar(&s.unsetToken, "unset-token", false, "unset the variable that has the token: later commands do not inherit it")
	f.StringArrayVar(&s.Forwards, "forward", nil, "forward a local port, as `PORT:HOST:PORT`; see: sallyport-step forward --help")
	f.DurationVar(&s.Lifetime, "lifetime", 12*time.Hour, "end the forwarder and restore the files after this time at the latest")
	f.StringVar(&s.LogFile, "log", "", "append refusals to this `FILE` (default: standard error of start)")
	return c
}

// isVariableName reports whether POSIX permits a name for a variable: the name is written
// into the script without quotes.
func isVariableName(s string) bool {
	for i, c := range []byte(s) {
		if !(c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || i > 0 && '0' <= c && c <= '9') {
			return false
		}
	}
	return s != ""
}

func (s *starter) run(ctx context.Context) error {
	if err := errors.Join(s.options.complete(), s.toolFlags.complete()); err != nil {
		return err
	}
	if !isVariableName(s.TokenVariable) {
		return invalid(fmt.Errorf("--token-env %q is not the name of a variable", s.TokenVariable))
	}
	path, err := session.Path(os.Getenv)
	if err != nil {
		return err
	}
	dir, err := session.Create(path)
	if err != nil {
		return err
	}
	unlock, err := dir.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	status, fresh, err := s.obtain(ctx, dir)
	if err != nil {
		return err
	}
	if err := s.configure(ctx, dir, status); err != nil {
		if fresh {
			err = errors.Join(err, s.abort(dir))
		}
		return err
	}
	return nil
}

// obtain returns the running forwarder with the same options, or starts one. What an
// earlier one left is restored first.
func (s *starter) obtain(ctx context.Context, dir session.Dir) (status session.Status, fresh bool, err error) {
	digest, err := s.digest(s.toolFlags)
	if err != nil {
		return status, false, err
	}
	running, err := runningStatus(ctx, dir)
	if err != nil {
		return status, false, err
	}
	if running != nil && running.Configuration == digest {
		return *running, false, nil
	}
	if running != nil {
		fmt.Fprintf(s.errOut, "sallyport-step: the forwarder of an earlier start with other options or another token (process %d) is replaced\n", running.PID)
	}
	if err := endSession(ctx, dir, s.errOut); err != nil {
		return status, false, err
	}
	status, err = spawn(ctx, dir, s.options, digest)
	return status, err == nil, err
}

// configure changes the files of the tools and prints the script.
func (s *starter) configure(ctx context.Context, dir session.Dir, status session.Status) error {
	settings := toolconfig.NewSettings(status.Forwarder)
	settings.Containers, settings.NoProxy = status.Containers, s.noProxy
	if host := toolconfig.BypassesAll(settings); host != "" {
		fmt.Fprintf(s.errOut, "sallyport-step: warning: NO_PROXY contains %q: tools that honor it connect directly: remove it\n", host)
	}
	journal, err := toolconfig.OpenJournal(dir.Path())
	if err != nil {
		return err
	}
	problems, err := journal.Apply(s.tools, settings)
	if err != nil {
		return err
	}
	for _, p := range problems {
		fmt.Fprintf(s.errOut, "sallyport-step: warning: %s\n", singleLine(p.String()))
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	variables := append(shellVariables(toolconfig.Variables(s.tools, settings)), shell.Variable{Name: session.Variable, Value: dir.Path()})
	var unset []string
	if s.unsetToken && s.fromEnvironment() {
		unset = []string{s.TokenVariable}
	}
	if _, err := s.out.Write(shell.Success(variables, closedVariables(), unset)); err != nil {
		return fmt.Errorf("print the script: %w", err)
	}
	if isTerminal(s.out) {
		fmt.Fprintln(s.errOut, "sallyport-step: warning: the script was printed and not evaluated: use eval \"$(sallyport-step start ...)\"")
	}
	step := ""
	if status.Step != "" {
		step = " (" + status.Step + ")"
	}
	fmt.Fprintf(s.errOut, "sallyport-step: forwarder at %s for %s%s\n", status.Forwarder, strings.Join(status.Proxies, ", "), step)
	return nil
}

// abort ends a forwarder whose start failed after it ran, even if the start was
// interrupted.
func (s *starter) abort(dir session.Dir) error {
	return endSession(context.Background(), dir, s.errOut)
}

// isTerminal reports whether a person sees what is written, and no shell evaluates it.
func isTerminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	return ok && isTerminalDescriptor(int(f.Fd()))
}
