package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/sallyport/sallyport/internal/stepapi"
	"github.com/sallyport/sallyport/step/forwarder"
	"github.com/sallyport/sallyport/step/session"
	"github.com/sallyport/sallyport/step/toolconfig"
)

// Timeouts of start and stop.
const (
	callTimeout = 10 * time.Second // for one request to a running forwarder
	endTimeout  = 15 * time.Second // for the end of a forwarder
	stepTimeout = 3 * time.Second  // for what Sallyport knows of the step: a report without it is complete enough
)

// runningStatus returns the status of the running forwarder; nil: there is none.
func runningStatus(ctx context.Context, dir session.Dir) (*session.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var status session.Status
	err := session.Call(ctx, dir.Path(), session.Request{Operation: session.OperationStatus}, &status)
	if errors.Is(err, session.ErrNotRunning) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &status, nil
}

// endSession ends the forwarder, if one runs, and restores the files.
func endSession(ctx context.Context, dir session.Dir, errOut io.Writer) error {
	if _, err := stopForwarder(ctx, dir); err != nil {
		return err
	}
	problems, err := restoreFiles(dir)
	for _, p := range problems {
		fmt.Fprintf(errOut, "sallyport-step: warning: not restored: %s\n", singleLine(p.String()))
	}
	return err
}

// stopForwarder ends the forwarder of a directory, and returns its report when its process
// has ended; nil: none ran.
func stopForwarder(ctx context.Context, dir session.Dir) (*forwarder.Report, error) {
	callCtx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var report forwarder.Report
	err := session.Call(callCtx, dir.Path(), session.Request{Operation: session.OperationStop}, &report)
	if err != nil && !errors.Is(err, session.ErrNotRunning) {
		return nil, err
	}
	endCtx, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	if ended := dir.WaitEnded(endCtx); ended != nil {
		return nil, ended
	}
	if err != nil {
		return nil, nil
	}
	return &report, nil
}

// restoreFiles restores what the journal of the directory lists.
func restoreFiles(dir session.Dir) ([]toolconfig.Problem, error) {
	journal, err := toolconfig.OpenJournal(dir.Path())
	if err != nil {
		return nil, err
	}
	return journal.Restore()
}

// askTargets has the running forwarder ask Sallyport about targets.
func askTargets(ctx context.Context, path string, targets []string) (*stepapi.Evaluations, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var e stepapi.Evaluations
	if err := session.Call(ctx, path, session.Request{Operation: session.OperationEvaluate, Targets: targets}, &e); err != nil {
		return nil, err
	}
	return &e, nil
}

// askStep returns what Sallyport knows of the step of a running forwarder.
func askStep(ctx context.Context, path string) (*stepapi.Step, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	var step stepapi.Step
	if err := session.Call(ctx, path, session.Request{Operation: session.OperationStep}, &step); err != nil {
		return nil, err
	}
	return &step, nil
}
