package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/step/session"
)

// readyTimeout is how long the forwarder may take to be ready.
const readyTimeout = 60 * time.Second

// handover is what start passes to serve on its standard input. The token is here and not
// in the environment or the arguments of the process, which other processes can list.
type handover struct {
	Options       options
	Token         string // of the environment; "": another source
	Directory     string
	Configuration string
}

// ready is what serve passes to start.
type ready struct {
	Status session.Status
	Error  string
}

// maxHandover bounds both messages.
const maxHandover = 1 << 20

// readyDescriptor is the descriptor on which serve reports that it is ready.
const readyDescriptor = 3

// spawn starts the forwarder as a process of its own session, and waits until it is ready.
func spawn(ctx context.Context, dir session.Dir, o options, digest string) (session.Status, error) {
	h := handover{Options: o, Directory: dir.Path(), Configuration: digest}
	if o.fromEnvironment() {
		if h.Token = os.Getenv(o.TokenVariable); h.Token == "" {
			return session.Status{}, fmt.Errorf("the environment variable %s is not set: add oidc to the step in bitbucket-pipelines.yml, or name another source of the token", o.TokenVariable)
		}
	}
	text, err := json.Marshal(h)
	if err != nil {
		return session.Status{}, err
	}
	own, err := os.Executable()
	if err != nil {
		return session.Status{}, fmt.Errorf("find the program: %w", err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		return session.Status{}, err
	}
	defer read.Close()
	cmd := exec.Command(own, "serve")
	cmd.Stdin = bytes.NewReader(text)
	cmd.Stderr = os.Stderr // of the step, not a pipe of start
	cmd.ExtraFiles = []*os.File{write}
	cmd.Env = without(os.Environ(), o.TokenVariable)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	_ = write.Close()
	if err != nil {
		return session.Status{}, fmt.Errorf("start the forwarder: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = read.Close() })
	defer stop()
	r, err := readReady(read)
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if ctx.Err() != nil {
			err = fmt.Errorf("the forwarder was not ready in time: %w", context.Cause(ctx))
		}
		return session.Status{}, err
	}
	return r.Status, cmd.Process.Release()
}

// readReady reads the message of serve.
func readReady(read io.Reader) (ready, error) {
	text, err := io.ReadAll(io.LimitReader(read, maxHandover))
	var r ready
	switch {
	case err != nil:
		return r, fmt.Errorf("wait for the forwarder: %w", err)
	case len(text) == 0:
		return r, errors.New("the forwarder ended before it was ready: its messages precede this one")
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("wait for the forwarder: %w", err)
	}
	if r.Error != "" {
		return r, errors.New(r.Error)
	}
	return r, nil
}

// without returns the environment without a variable.
func without(environment []string, name string) []string {
	var kept []string
	for _, v := range environment {
		if !strings.HasPrefix(v, name+"=") {
			kept = append(kept, v)
		}
	}
	return kept
}
