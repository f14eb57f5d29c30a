package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/step/session"
)

// newServe is the forwarder's own process, which start starts.
func newServe() *cobra.Command {
	return &cobra.Command{
		Use:    "serve",
		Short:  "The forwarder's process, which start starts",
		Hidden: true,
		Args:   noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			text, err := io.ReadAll(io.LimitReader(c.InOrStdin(), maxHandover))
			if err != nil {
				return err
			}
			var h handover
			if err := json.Unmarshal(text, &h); err != nil {
				return invalid(fmt.Errorf("serve is started by start: %w", err))
			}
			report := os.NewFile(readyDescriptor, "ready")
			if report == nil {
				return invalid(errors.New("serve is started by start: descriptor 3 is missing"))
			}
			syscall.CloseOnExec(readyDescriptor)
			return serve(c.Context(), h, report)
		},
	}
}

// serve runs the forwarder until stop, a signal, or the end of its lifetime.
func serve(ctx context.Context, h handover, report *os.File) error {
	// A log that is closed, as at the end of a step, must not end the forwarder.
	pipes := make(chan os.Signal, 1)
	signal.Notify(pipes, syscall.SIGPIPE)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d, err := startDaemon(ctx, h, cancel)
	if err != nil {
		_ = writeReady(report, ready{Error: err.Error()})
		return statusError{status: exitFailed} // start reports it
	}
	if err := writeReady(report, ready{Status: d.status}); err != nil {
		cancel() // start has ended: no shell uses this forwarder
	}
	if h.Options.Lifetime > 0 {
		timer := time.AfterFunc(h.Options.Lifetime, cancel)
		defer timer.Stop()
	}
	err = d.server.Serve(ctx)
	d.engine.close()
	if !d.stopped {
		d.restore()
	}
	return err
}

func writeReady(report *os.File, r ready) error {
	text, err := json.Marshal(r)
	if err == nil {
		_, err = report.Write(text)
	}
	return errors.Join(err, report.Close())
}

// daemon is a forwarder with its control socket.
type daemon struct {
	dir     session.Dir
	engine  *engine
	server  *session.Server
	status  session.Status
	stopped bool // by stop, which restores the files
	cancel  context.CancelFunc
	log     *os.File
}

func startDaemon(ctx context.Context, h handover, cancel context.CancelFunc) (*daemon, error) {
	dir, err := session.Open(h.Directory)
	if err != nil {
		return nil, err
	}
	if err := dir.MarkRunning(); err != nil {
		return nil, err
	}
	d := &daemon{dir: dir, cancel: cancel, log: os.Stderr}
	if h.Options.LogFile != "" {
		if d.log, err = os.OpenFile(h.Options.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
			return nil, fmt.Errorf("open the log: %w", err)
		}
	}
	if h.Token != "" {
		if err := os.Setenv(h.Options.TokenVariable, h.Token); err != nil {
			return nil, err
		}
	}
	if d.engine, err = startEngine(ctx, h.Options, d.log); err != nil {
		return nil, err
	}
	d.status = session.Status{
		PID: os.Getpid(), Version: programVersion(), Started: time.Now().UTC(),
		Forwarder: d.engine.own, Containers: d.engine.docker,
		Proxies: h.Options.shownProxies(), CAFile: h.Options.CAFile, Plaintext: h.Options.Plaintext, TokenFile: h.Options.TokenFile, Token: h.Options.tokenSource(), Configuration: h.Configuration,
		Step: d.engine.step,
	}
	if d.server, err = session.Listen(dir, d.handle); err != nil {
		d.engine.close()
		return nil, err
	}
	return d, nil
}

// handle serves one request of the control socket.
func (d *daemon) handle(ctx context.Context, r session.Request) (any, error) {
	switch r.Operation {
	case session.OperationStatus:
		return d.status, nil
	case session.OperationReport:
		return d.engine.forwarder.Report(), nil
	case session.OperationForward:
		return d.engine.forward(r.Forward)
	case session.OperationStep:
		step, refusal, err := d.engine.client.Step(ctx)
		if refusal != nil {
			err = refusalError("the step", refusal)
		}
		return step, err
	case session.OperationEvaluate:
		evaluations, refusal, err := d.engine.client.Evaluate(ctx, r.Targets)
		if refusal != nil {
			err = refusalError("the evaluation", refusal)
		}
		return evaluations, err
	case session.OperationNetworkCheck:
		return nil, sendNetworkCheck(ctx, d.engine.client, r.NetworkCheck)
	case session.OperationStop:
		d.stopped = true
		d.cancel() // Serve returns after this response
		return d.engine.forwarder.Report(), nil
	}
	return nil, errors.New("the operation is not known")
}

// restore restores the files of tools at the end of a forwarder that stop did not end. A
// start that is in progress finishes first: the files that it changed are restored, unless
// it has started another forwarder.
func (d *daemon) restore() {
	d.dir.ClearRunning() // such a start waits for it
	unlock, err := d.dir.Lock()
	if err != nil {
		fmt.Fprintf(d.log, "sallyport-step: restore the files: %v\n", err)
		return
	}
	defer unlock()
	if status, err := runningStatus(context.Background(), d.dir); status != nil || err != nil {
		return
	}
	problems, err := restoreFiles(d.dir)
	for _, p := range problems {
		fmt.Fprintf(d.log, "sallyport-step: not restored: %s\n", singleLine(p.String()))
	}
	if err == nil {
		err = d.dir.Remove()
	}
	if err != nil {
		fmt.Fprintf(d.log, "sallyport-step: restore the files: %v\n", err)
	}
}
