package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// leaves are all commands that do something, by what is typed.
func leaves(c *cobra.Command, prefix []string) [][]string {
	var all [][]string
	for _, sub := range c.Commands() {
		words := append(append([]string{}, prefix...), sub.Name())
		if sub.HasSubCommands() {
			all = append(all, leaves(sub, words)...)
		} else if sub.Name() != "help" && sub.Name() != "completion" {
			all = append(all, words)
		}
	}
	return all
}

// TestEveryCommandReportsItsEnd: whatever keeps a command from its work ends it with
// a message: 2 for usage, the configuration and files that cannot be read; 1 for a
// database that does not answer.
func TestEveryCommandReportsItsEnd(t *testing.T) {
	t.Setenv(configVariable, "")
	folder := t.TempDir()
	t.Chdir(folder)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nowhere := closed.Addr().String()
	_ = closed.Close()
	for name, text := range map[string]string{
		"url": "postgres://sallyport_writer@" + nowhere + "/sallyport?connect_timeout=1", "torn.yaml": "listeners: [\n",
		"good.yaml": `listeners: [{address: "127.0.0.1:0"}]
identity: {bitbucket: [{workspace: acme, workspace_uuid: "922e118c-f34f-4226-a897-0e0afbec553d", issuer: "http://` + nowhere + `/oidc", audiences: [x]}]}
policy: {directory: policy}
audit: {database_url_file: url, migration_url_file: url}
`} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	try := func(args ...string) int {
		t.Helper()
		var out, errOut bytes.Buffer
		code := run(ctx, args, strings.NewReader(""), &out, &errOut)
		if code != exitOK && errOut.Len()+out.Len() == 0 || code < 0 || code > exitUnanchored {
			t.Errorf("sallyport %s: ended with %d and no message", strings.Join(args, " "), code)
		}
		return code
	}
	commands := leaves(newRoot(), nil)
	if len(commands) < 40 {
		t.Fatalf("only %d commands", len(commands))
	}
	for _, words := range commands {
		c, _, err := newRoot().Find(words)
		if err != nil {
			t.Fatal(err)
		}
		if !c.DisableFlagParsing { // psql's flags are its own
			if code := try(append(words, "--no-such-flag")...); code != exitInvalid {
				t.Errorf("%v with a flag that does not exist: %d", words, code)
			}
		}
		try(words...)
		if c.Flags().Lookup("config") == nil && !c.DisableFlagParsing {
			continue
		}
		for _, file := range []string{"gone.yaml", "torn.yaml", folder} {
			if code := try(append(words, "--config", file)...); code != exitInvalid {
				t.Errorf("%v with the configuration %s: %d", words, file, code)
			}
		}
		if words[0] != "serve" { // TestBadStarts
			try(append(words, "--config", "good.yaml")...)
		}
	}
}

// TestProgramsOfOursAreNotPassedOn: the status of git or initdb is never ours, and no
// error is swallowed for theirs; psql's status is passed on.
func TestProgramsOfOursAreNotPassedOn(t *testing.T) {
	ended := exec.Command("sh", "-c", "exit 128").Run()
	for _, c := range []struct {
		err    error
		status int
		says   string
	}{
		{fmt.Errorf("the policy does not load: git fetch: %w", ended), exitFailed, "git fetch: exit status 128"},
		{invalid{fmt.Errorf("x: %w", ended)}, exitInvalid, "x: exit status 128"},
		{passedOn{3}, 3, ""}, {passedOn{0}, exitFailed, ""},
		{damaged{}, exitFailed, ""},
		{errors.New("plain"), exitFailed, "sallyport: plain"},
	} {
		var errOut bytes.Buffer
		if got := exitOf(c.err, &errOut); got != c.status || !strings.Contains(errOut.String(), c.says) {
			t.Errorf("%v: %d %q, want %d %q", c.err, got, errOut.String(), c.status, c.says)
		}
	}
}
