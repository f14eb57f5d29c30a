package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	auditreader "github.com/sallyport/sallyport/audit/postgres/reader"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/logging"
	"github.com/sallyport/sallyport/internal/database"
)

// The exit statuses of every command. `audit psql` returns its program's.
const (
	exitOK      = 0
	exitFailed  = 1 // it failed, or found something
	exitInvalid = 2 // wrong usage or configuration, or unreadable input
)

// exitOf is the exit status for an error, which it prints, unless the command or its
// program has printed it.
func exitOf(err error, errOut io.Writer) int {
	if err == nil {
		return exitOK
	}
	// A program that we ran for the operator has printed what is wrong. Programs that
	// we run for ourselves (git, initdb) end in other errors.
	if exit, ok := errors.AsType[cli.ProgramError](err); ok {
		return max(exit.Status, exitFailed)
	}
	if _, ok := errors.AsType[cli.FindingError](err); ok {
		return exitFailed
	}
	reportError(errOut, err)
	if isInvalid(err) {
		return exitInvalid
	}
	return exitFailed
}

// isInvalid reports whether the operator's input is wrong. A server that does not
// answer, and an interruption, are failures, whatever the input was.
func isInvalid(err error) bool {
	if _, ok := errors.AsType[*database.URLError](err); ok {
		return true
	}
	if database.FromServer(err) || auditreader.IsLost(err) || errors.Is(err, context.Canceled) {
		return false
	}
	_, ok := errors.AsType[cli.InvalidError](err)
	return ok
}

// reportError prints an error. If no process reads it, reportError waits no longer than
// for the last log lines.
func reportError(errOut io.Writer, err error) {
	done := make(chan struct{})
	go func() {
		fmt.Fprintf(errOut, "sallyport: %v\n", err)
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(logging.FlushTimeout):
	}
}

// findings has for each command what ends it with status 1 besides a failure. A command
// without findings has an empty text.
var findings = map[string]string{
	"audit reconciliation": "a deployment is unobserved, or its class is unknown (--format json: runs, repositories)",
	"audit evidence":       "the log is damaged, no given key signed it, or it is not anchored (--format json: result); the pack is made all the same",
	"audit evidence check": "the pack or its log is damaged, no given key signed it, or it is not anchored (--format json: result)",
	"audit export":         "",
	"audit stream":         "",
	"audit gap declare":    "",
	"audit gap list":       "a gap is not declared (--format json: gaps without declared)",
	"audit hold lift":      "",
	"audit hold list":      "",
	"audit hold set":       "",
	"audit key generate":   "",
	"audit key replace":    "",
	"audit key rotate":     "",
	"audit key show":       "",
	"audit proof":          "the log does not have the decision, has not sealed it yet, or is smaller than the size",
	"audit query":          "",
	"audit retention":      "",
	"audit show":           "the log does not have the decision, or is damaged there",
	"audit stats":          "",
	"audit tail":           "",
	"audit verify":         "the log is damaged, no given key signed it, or it is not anchored (--format json: result)",
	"config check":         "a check failed (--format json: accepted)",
	"debug goroutines":     "",
	"debug heap":           "",
	"debug profile":        "",
	"debug trace":          "",
	"health":               "the instance is not up, or not ready",
	"migrate":              "",
	"policy check":         "a server would reject the policy; with --strict, a warning (--format json: accepted)",
	"policy rollout":       "",
	"policy diff":          "a difference that --fail-on names",
	"policy eval":          "the verdict is not that of --expect",
	"policy explain":       "the decision is not reproduced (--format json: reproduced)",
	"policy fmt":           "a file cannot be formatted; with --check, a file is not formatted",
	"policy init":          "",
	"policy reload":        "the policy was rejected, and the active revision stays in force",
	"policy replay":        "a difference that --fail-on names; with --as-decided, a decision that is not reproduced",
	"policy suggest":       "",
	"policy test":          "a test fails, or the policy does not load (--format json: passed)",
	"policy vendor":        "",
	"policy who-can":       "",
	"serve":                "",
	"token inspect":        "the token is not accepted, or that cannot be decided (--format json: verdict)",
	"token unrevoke":       "nothing was revoked",
	"token revocations":    "",
	"token revoke":         "an instance has not confirmed: it is named",
	"tunnels close":        "a tunnel is not open",
	"tunnels list":         "",
	"emergency-stop":       "the instance is stopped, and a tunnel is still open or the stop could not be recorded",
	"version":              "",
	"webhook add":          "",
	"webhook list":         "",
	"webhook rotate":       "",
	"webhook test":         "a stage failed: it is named",
	"webhook dead-letters": "",
	"webhook deliveries":   "",
	"webhook replay":       "",
	"webhook show":         "",

	"webhook agent":                   "",
	"webhook agent-credential create": "",
	"webhook agent-credential list":   "",
	"webhook agent-credential revoke": "",
}

// psqlStatus is for the one command whose status is another program's.
const psqlStatus = `

Exit status: psql's own, and before psql starts
  1  failure
  2  wrong usage or configuration, or unreadable input`

// documentExits ends the help of every command with its exit statuses.
func documentExits(c *cobra.Command) {
	for _, sub := range c.Commands() {
		documentExits(sub)
	}
	path := strings.TrimPrefix(c.CommandPath(), "sallyport ")
	finding, known := findings[path]
	if c.Long == "" {
		c.Long = c.Short + "."
	}
	switch {
	case path == "audit psql":
		c.Long += psqlStatus
	case known:
		if finding != "" {
			finding = ", or " + finding
		}
		c.Long = strings.TrimRight(c.Long, "\n") + "\n\nExit status:\n  0  success\n  1  failure" + finding + "\n  2  wrong usage or configuration, or unreadable input"
	}
}
