package main

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/auditcmd"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/migrations"
)

// executed runs a command line in this process.
func executed(t *testing.T, args ...string) (code int, out, errOut string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), args, strings.NewReader(""), &o, &e)
	return code, o.String(), e.String()
}

// TestDidYouMean: at every level a misspelt command is an error that suggests one.
func TestDidYouMean(t *testing.T) {
	t.Parallel()
	var check func(c *cobra.Command)
	checked := 0
	check = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			if len(sub.Name()) < 5 || !sub.IsAvailableCommand() || c.Runnable() && c.Args == nil {
				continue
			}
			path := strings.Fields(strings.TrimPrefix(c.CommandPath(), "sallyport"))
			wrong := sub.Name()[:2] + sub.Name()[3:]
			code, _, errOut := executed(t, append(path, wrong)...)
			if code != exitInvalid || !strings.Contains(errOut, "unknown command") || !strings.Contains(errOut, `did you mean "`+sub.Name()+`"?`) {
				t.Errorf("sallyport %s %s: status %d, %s", strings.Join(path, " "), wrong, code, errOut)
			}
			checked++
			check(sub)
		}
	}
	check(newRoot())
	if checked < 30 {
		t.Errorf("only %d commands", checked)
	}
	if _, _, errOut := executed(t, "verfy"); !strings.Contains(errOut, `did you mean "audit verify"?`) {
		t.Errorf("a command of a group: %s", errOut)
	}
}

// TestCompletions: flags that take words offer them.
func TestCompletions(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"audit query --verdict ":         "allow\ndeny\n",
		"audit tail --kind ":             strings.Join(auditcmd.KindNames(), "\n") + "\n",
		"audit query --decision-reason ": strings.Join(auditcmd.ReasonNames, "\n") + "\n",
		"audit query --format ":          "table\njson\ncsv\n",
		"policy replay --fail-on ":       "none\nclosed\nopened\nany\n",
		"version --format ":              "text\njson\n",
	} {
		code, out, _ := executed(t, append([]string{cobra.ShellCompRequestCmd}, strings.Split(line, " ")...)...)
		if code != 0 || !strings.HasPrefix(out, want) {
			t.Errorf("%s: status %d, %q", line, code, out)
		}
	}
	// A database that is unavailable offers nothing, and is not an error on the terminal.
	none := filepath.Join(t.TempDir(), "none")
	code, out, errOut := executed(t, cobra.ShellCompRequestCmd, "audit", "query", "--database-url-file", none, "--repository", "")
	if code != 0 || !strings.HasPrefix(out, ":") || strings.Contains(errOut, none) {
		t.Errorf("status %d, %q, %q", code, out, errOut)
	}
}

// TestVersion: version prints what a report of a defect has to contain.
func TestVersion(t *testing.T) {
	t.Parallel()
	_, text, _ := executed(t, "version")
	code, out, _ := executed(t, "version", "--format", "json")
	var v versionJSON
	if err := json.Unmarshal([]byte(out), &v); err != nil || code != 0 {
		t.Fatalf("status %d, %v: %s", code, err, out)
	}
	if v.Version != cli.Version() || v.Go != runtime.Version() || v.Schema != migrations.Latest() || v.OldestSchema != migrations.Oldest {
		t.Errorf("%+v", v)
	}
	for _, want := range []string{v.Version, v.Go, "schema"} {
		if !strings.Contains(text, want) {
			t.Errorf("the text lacks %q: %s", want, text)
		}
	}
}

// TestHelpFits: help fits 100 columns. Examples may be longer.
func TestHelpFits(t *testing.T) {
	t.Parallel()
	for _, path := range leaves(newRoot(), nil) {
		_, out, _ := executed(t, append(path, "--help")...)
		_, flags, _ := strings.Cut(out, "Flags:\n")
		for line := range strings.Lines(flags) {
			if len([]rune(line)) > helpWidth+1 {
				t.Errorf("%s: %d columns: %s", strings.Join(path, " "), len([]rune(line))-1, line)
			}
		}
	}
}
