package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sallyport/sallyport/step/session"
	"github.com/sallyport/sallyport/step/toolconfig"
)

// runner is one run of run.
type runner struct {
	options
	toolFlags
	errOut io.Writer
}

func newRun() *cobra.Command {
	r := &runner{}
	c := &cobra.Command{
		Use:   "run [--proxy URL] -- COMMAND [ARGUMENT...]",
		Short: "Run one command with a forwarder of its own",
		Long: `Run one command with a forwarder of its own, which ends with the command.

The command gets the variables that start would export, without the variable that has the
token. The files of tools are changed until the command ends, unless a forwarder of start
is running. Signals are passed on to the command's process group. Without --proxy, the
command uses the running forwarder of start.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return invalid(errors.New("run: the command is missing: write sallyport-step run --proxy URL -- COMMAND"))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			r.errOut = c.ErrOrStderr()
			if len(r.Proxies) == 0 {
				return r.runWithStarted(c, args)
			}
			return r.run(c.Context(), args)
		},
	}
	c.Flags().SetInterspersed(false)
	r.addUpstream(c)
	r.addForwarder(c)
	r.toolFlags.add(c)
	c.Flags().StringArrayVar(&r.Forwards, "forward", nil, "forward a local port, as `PORT:HOST:PORT`")
	return c
}

func (r *runner) run(ctx context.Context, args []string) error {
	if err := errors.Join(r.options.complete(), r.toolFlags.complete()); err != nil {
		return err
	}
	failed := func(err error) error { return statusError{exitRun, err} }
	e, err := startEngine(ctx, r.options, os.Stderr)
	if err != nil {
		return failed(err)
	}
	defer e.close()
	settings := toolconfig.NewSettings(e.own)
	settings.Containers, settings.NoProxy = e.docker, r.noProxy
	restore, err := r.applyFiles(settings)
	if err != nil {
		return failed(err)
	}
	defer restore()
	return runCommand(args, r.environment(settings))
}

// runWithStarted runs a command with the forwarder of start.
func (r *runner) runWithStarted(c *cobra.Command, args []string) error {
	if err := r.toolFlags.complete(); err != nil {
		return err
	}
	var extra []string
	c.Flags().Visit(func(f *pflag.Flag) {
		if !slices.Contains([]string{"only", "without", "no-proxy"}, f.Name) {
			extra = append(extra, "--"+f.Name)
		}
	})
	if len(extra) > 0 {
		return invalid(fmt.Errorf("run: %s is for a forwarder of this command's own: give --proxy URL too", strings.Join(extra, ", ")))
	}
	in, err := inspect(c.Context(), r.options)
	switch {
	case err != nil:
		return statusError{exitRun, err}
	case in.status == nil:
		return invalid(errors.New("run: no forwarder is running: give --proxy https://HOST:PORT"))
	}
	settings := toolconfig.NewSettings(in.status.Forwarder)
	settings.Containers, settings.NoProxy = in.status.Containers, r.noProxy
	return runCommand(args, r.environment(settings))
}

// environment is that of the command: the variables of tools, without the token.
func (r *runner) environment(settings toolconfig.Settings) []string {
	environment := os.Environ()
	if r.fromEnvironment() {
		environment = without(environment, r.TokenVariable)
	}
	for _, v := range toolconfig.Variables(r.tools, settings) {
		environment = append(without(environment, v.Name), v.Name+"="+v.Value)
	}
	return environment
}

// applyFiles changes the files of tools, unless a start or another run has changed them.
// What a process that was killed left is restored first.
func (r *runner) applyFiles(settings toolconfig.Settings) (restore func(), err error) {
	path, err := session.Path(os.Getenv)
	if err != nil {
		return nil, err
	}
	dir, err := session.Create(path)
	if err != nil {
		return nil, err
	}
	unlock, err := dir.Lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	if dir.MarkRunning() != nil {
		fmt.Fprintln(r.errOut, "sallyport-step: warning: a start or another run has changed the files of tools: they lead to its forwarder, and the variables to the forwarder of this command: run without --proxy uses the forwarder of start for both")
		return func() {}, nil
	}
	left, err := restoreFiles(dir)
	r.warn("not restored: ", left)
	if err != nil {
		return nil, err
	}
	journal, err := toolconfig.OpenJournal(dir.Path())
	if err != nil {
		return nil, err
	}
	problems, err := journal.Apply(r.tools, settings)
	r.warn("", problems)
	if err != nil {
		_, restoreErr := restoreFiles(dir)
		return nil, errors.Join(err, restoreErr)
	}
	return func() { r.restoreAll(dir) }, nil
}

// restoreAll restores the files at the end of the command.
func (r *runner) restoreAll(dir session.Dir) {
	unlock, err := dir.Lock()
	if err == nil {
		defer unlock()
		var problems []toolconfig.Problem
		problems, err = restoreFiles(dir)
		r.warn("not restored: ", problems)
		err = errors.Join(err, dir.Remove())
	}
	if err != nil {
		fmt.Fprintf(r.errOut, "sallyport-step: restore the files: %v\n", err)
	}
}

func (r *runner) warn(prefix string, problems []toolconfig.Problem) {
	for _, p := range problems {
		fmt.Fprintf(r.errOut, "sallyport-step: warning: %s%s\n", prefix, singleLine(p.String()))
	}
}

// passedOn are the signals that end or inform a command.
var passedOn = []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH, syscall.SIGCONT}

// runCommand runs a command in a process group of its own, and returns its status.
func runCommand(args, environment []string) error {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = environment
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	signals := make(chan os.Signal, len(passedOn))
	signal.Notify(signals, passedOn...)
	defer signal.Stop(signals)
	if foregroundTerminal() {
		cmd.SysProcAttr.Foreground = true // else reading the terminal would stop it
	}
	if err := cmd.Start(); err != nil {
		status := exitNotRunable
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
			status = exitNotFound
		}
		return statusError{status, err}
	}
	ended := make(chan struct{})
	go func() {
		for {
			select {
			case s := <-signals:
				_ = syscall.Kill(-cmd.Process.Pid, s.(syscall.Signal))
			case <-ended:
				return
			}
		}
	}()
	err := cmd.Wait()
	close(ended)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return statusError{status: commandStatus(exit.ProcessState)}
	}
	return err
}

// commandStatus is the status by which a shell reports the end of a command.
func commandStatus(state *os.ProcessState) int {
	if wait, ok := state.Sys().(syscall.WaitStatus); ok && wait.Signaled() {
		return 128 + int(wait.Signal())
	}
	return state.ExitCode()
}
