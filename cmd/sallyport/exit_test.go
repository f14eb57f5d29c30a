package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/database"
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

// ends has for each command the arguments with which it is complete, and how it ends
// where neither a database nor an instance answers.
var ends = map[string]struct {
	args   string
	status int
}{
	"audit reconciliation": {"", exitFailed},
	"audit evidence":       {"--since 2026-10-01 --until 2026-11-01 --out pack --unsigned", exitFailed},
	"audit evidence check": {"policy", exitInvalid}, // it is not a pack
	"audit export":         {"--out export.jsonl", exitFailed},
	"audit stream":         {"--out events.jsonl", exitFailed},
	"audit gap declare":    {"--writer w --first 1 --last 2 --reason lost --signing-key key", exitFailed},
	"audit gap list":       {"", exitFailed},
	"audit hold lift":      {"1 --reason over", exitFailed},
	"audit hold list":      {"", exitFailed},
	"audit hold set":       {"--since 2026-01 --reason audit", exitFailed},
	"audit key generate":   {"--out other-key", exitOK},
	"audit key replace":    {"--next next-key --origin log", exitFailed},
	"audit key rotate":     {"--next next-key", exitFailed}, // there is none yet
	"audit key show":       {"", exitFailed},
	"audit proof":          {"01a1fdf4-c192-7cf7-900b-49ceb24f5238", exitFailed},
	"audit query":          {"", exitFailed},
	"audit retention":      {"", exitFailed},
	"audit show":           {"01a1fdf4-c192-7cf7-900b-49ceb24f5238", exitFailed},
	"audit stats":          {"", exitFailed},
	"audit tail":           {"", exitFailed},
	"audit verify":         {"", exitFailed},
	"config check":         {"--online", exitFailed},
	"debug goroutines":     {"", exitFailed},
	"debug heap":           {"", exitFailed},
	"debug profile":        {"", exitFailed},
	"debug trace":          {"", exitFailed},
	"health":               {"", exitFailed},
	"migrate":              {"", exitFailed},
	"policy check":         {"policy", exitOK},
	"policy rollout":       {"", exitFailed},
	"policy diff":          {"policy policy", exitFailed},
	"policy eval":          {"policy --as repository=acme/payments --to api.example", exitOK},
	"policy explain":       {"01a1fdf4-c192-7cf7-900b-49ceb24f5238", exitFailed},
	"policy fmt":           {"policy --check", exitOK},
	"policy init":          {"fresh", exitOK},
	"policy reload":        {"", exitFailed},
	"policy replay":        {"policy", exitFailed},
	"policy suggest":       {"--all --out policy", exitFailed},
	"policy test":          {"policy", exitOK},
	"policy vendor":        {"policy", exitOK},
	"policy who-can":       {"policy --to api.example", exitFailed},
	"serve":                {"", exitFailed},
	"token inspect":        {"", exitInvalid}, // there is none
	"token unrevoke":       {"--step 922e118c-f34f-4226-a897-0e0afbec553d", exitFailed},
	"token revocations":    {"", exitFailed},
	"token revoke":         {"--step 922e118c-f34f-4226-a897-0e0afbec553d --reason gone", exitFailed},
	"tunnels close":        {"01a1fdf4-c192-7cf7-900b-49ceb24f5238", exitFailed},
	"tunnels list":         {"", exitFailed},
	"emergency-stop":       {"--reason test", exitFailed},
	"version":              {"", exitOK},
	"webhook add":          {"policy --repository acme/x --url https://hooks.example --action refresh_policy", exitOK},
	"webhook list":         {"", exitOK},
	"webhook rotate":       {"policy", exitInvalid}, // there is no receiver
	"webhook test":         {"policy", exitInvalid},
	"webhook dead-letters": {"", exitFailed},
	"webhook deliveries":   {"", exitFailed},
	"webhook replay":       {"01a1fdf4-c192-7cf7-900b-49ceb24f5238 --reason test", exitFailed},
	"webhook show":         {"01a1fdf4-c192-7cf7-900b-49ceb24f5238", exitFailed},

	"webhook agent":                   {"--server https://hooks.example --credential-file /nonexistent --to http://127.0.0.1/", exitInvalid},
	"webhook agent-credential create": {"--endpoint jenkins", exitFailed},
	"webhook agent-credential list":   {"", exitFailed},
	"webhook agent-credential revoke": {"0123456789abcdef --reason test", exitFailed},
}

// TestEveryCommandReportsItsEnd: whatever keeps a command from its work ends it with
// a message: 2 for usage, the configuration and files that cannot be read; 1 for a
// database or an instance that does not answer. Its help documents both.
func TestEveryCommandReportsItsEnd(t *testing.T) {
	t.Setenv(cli.ConfigVariable, "")
	t.Setenv("BITBUCKET_STEP_OIDC_TOKEN", "")
	folder := t.TempDir()
	t.Chdir(folder)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nowhere := closed.Addr().String()
	_ = closed.Close()
	private, err := audit.GenerateKey("log")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"url": "postgres://sallyport_writer@" + nowhere + "/sallyport?connect_timeout=1", "torn.yaml": "listeners: [\n", "key": private,
		"good.yaml": `listeners: [{address: "127.0.0.1:0"}]
admin: {address: "` + nowhere + `"}
identity: {bitbucket: [{workspace: acme, workspace_uuid: "922e118c-f34f-4226-a897-0e0afbec553d", issuer: "http://` + nowhere + `/oidc", audiences: [x]}]}
policy: {directory: policy}
data_directory: data
audit: {database_url_file: url, migration_url_file: url}
`} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if code := run(t.Context(), []string{"policy", "init", "policy"}, nil, io.Discard, io.Discard); code != exitOK {
		t.Fatal(code)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	try := func(want int, args ...string) {
		t.Helper()
		var out, errOut bytes.Buffer
		code := run(ctx, args, strings.NewReader(""), &out, &errOut)
		if code != want {
			t.Errorf("sallyport %s: ended with %d, want %d: %s", strings.Join(args, " "), code, want, errOut.String())
		}
		if code != exitOK && errOut.Len() == 0 {
			t.Errorf("sallyport %s: ended with %d and no message", strings.Join(args, " "), code)
		}
	}
	for _, words := range leaves(newRoot(), nil) {
		c, _, err := newRoot().Find(words)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(c.Long, "\n\nExit status") {
			t.Errorf("%v: the help has no exit statuses: add the command to findings", words)
		}
		path := strings.Join(words, " ")
		if path == "audit psql" { // TestPsqlStatus
			continue
		}
		end, known := ends[path]
		if !known {
			t.Errorf("%s: add the command to this test", path)
			continue
		}
		words = append(words, strings.Fields(end.args)...)
		words = slices.Clip(words)
		try(exitInvalid, append(words, "--no-such-flag")...)
		if c.Flags().Lookup("config") == nil {
			try(end.status, words...)
			continue
		}
		for _, file := range []string{"gone.yaml", "torn.yaml", folder} {
			try(exitInvalid, append(words, "--config", file)...)
		}
		try(end.status, append(words, "--config", "good.yaml")...)
	}
	if len(ends) != len(findings) {
		t.Errorf("%d commands here, and %d have findings", len(ends), len(findings))
	}
}

// TestMistypedCommandLines: a mistake on the command line ends with status 2 and what to
// type instead.
func TestMistypedCommandLines(t *testing.T) {
	t.Setenv(cli.ConfigVariable, "")
	t.Chdir(t.TempDir())
	for line, says := range map[string]string{
		"sevre":                    `unknown command "sevre" for "sallyport": did you mean "serve"?`,
		"audit verfy":              `unknown command "verfy" for "sallyport audit": did you mean "verify"?`,
		"audit hold sett":          `did you mean "set"?`,
		"serve etc/sallyport.yaml": "a configuration is named with -c FILE",
		"version x":                `sallyport version takes no argument, and was given "x": leave it out`,
		"config check --onlin":     "did you mean --online?",
		"audit query --format jsn": "did you mean json?",
		"audit hold set --since 2026-13 --reason x": `--since "2026-13": want a month such as 2026-01`,
		"audit psql -c sallyport.yaml":              "name one with --config FILE",
		"audit key generate --out no/key":           "make its directory",
		"health --ready --url http://127.0.0.1:1/x": "",
	} {
		var errOut bytes.Buffer
		want := exitInvalid
		if strings.HasPrefix(line, "health") || strings.HasPrefix(line, "audit key") {
			want = exitFailed
		}
		if code := run(t.Context(), strings.Fields(line), nil, io.Discard, &errOut); code != want || !strings.Contains(errOut.String(), says) {
			t.Errorf("%s: %d, want %d and %q: %s", line, code, want, says, errOut.String())
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
		{cli.Invalid(fmt.Errorf("x: %w", ended)), exitInvalid, "x: exit status 128"},
		{cli.ProgramError{Status: 3}, 3, ""}, {cli.ProgramError{Status: 0}, exitFailed, ""},
		{cli.FindingError{}, exitFailed, ""},
		{cli.Invalid(fmt.Errorf("x: %w", context.Canceled)), exitFailed, "x"},
		{cli.Invalid(database.Explain("connect", &pgconn.Config{}, io.ErrUnexpectedEOF)), exitFailed, "connect"},

		{errors.New("plain"), exitFailed, "sallyport: plain"},
	} {
		var errOut bytes.Buffer
		if got := exitOf(c.err, &errOut); got != c.status || !strings.Contains(errOut.String(), c.says) {
			t.Errorf("%v: %d %q, want %d %q", c.err, got, errOut.String(), c.status, c.says)
		}
	}
}
