package main

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	auditreader "github.com/sallyport/sallyport/audit/postgres/reader"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/auditcmd"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/auditdb"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/policycmd"
	"github.com/sallyport/sallyport/internal/misspelling"
)

// TestMisspeltFlags: no misspelling of a flag, or of a word that a flag takes, is
// accepted silently by any command.
func TestMisspeltFlags(t *testing.T) {
	t.Parallel()
	flags, words := 0, 0
	for _, path := range leaves(newRoot(), nil) {
		c, _, err := newRoot().Find(path)
		if err != nil {
			t.Fatal(err)
		}
		if c.DisableFlagParsing { // psql's flags are its own
			continue
		}
		c.InitDefaultHelpFlag()
		var names []string
		c.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		c.Flags().VisitAll(func(f *pflag.Flag) {
			flags++
			for _, wrong := range misspelling.Of(f.Name) {
				if !slices.Contains(names, wrong) && c.ParseFlags([]string{"--" + wrong + "=x"}) == nil {
					t.Errorf("%v accepts --%s instead of --%s", path, wrong, f.Name)
				}
			}
			known := strings.Split(f.Value.Type(), "|")
			if len(known) < 2 {
				return
			}
			for _, word := range known {
				words++
				if err := f.Value.Set(word); err != nil {
					t.Errorf("%v --%s %s: %v", path, f.Name, word, err)
				}
				for _, wrong := range misspelling.Of(word) {
					if !slices.Contains(known, wrong) && f.Value.Set(wrong) == nil {
						t.Errorf("%v --%s accepts %s instead of %s", path, f.Name, wrong, word)
					}
				}
			}
		})
	}
	if flags < 200 || words < 40 {
		t.Errorf("only %d flags, and %d words of them", flags, words)
	}
}

// TestMisspeltWords: no misspelling of a word in a flag that takes a list, or of a key in a
// pair, is accepted silently. The command refuses it before it reads a configuration.
func TestMisspeltWords(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		command, flag, value string // %s of value is the word
		words                []string
		valid                []string // other words that may stand there
		refused              string
	}{
		{"audit query -c /nowhere", "verdict", "%s", []string{"allow", "deny"}, nil, "is not known"},
		{"audit query -c /nowhere", "mode", "%s", []string{"enforce", "report"}, nil, "is not known"},
		{"audit query -c /nowhere", "kind", "%s", auditcmd.KindNames(), nil, "is not known"},
		{"audit tail -c /nowhere", "decision-reason", "%s", auditcmd.ReasonNames, nil, "is not known"},
		{"audit query -c /nowhere", "columns", "%s", auditreader.Columns(true), []string{"all"}, "is not known"},
		{"audit query -c /nowhere", "since", "%s", []string{"now"}, []string{"0"}, "is not a time"},
		{"audit psql --config /nowhere", "role", "%s", slices.Sorted(maps.Keys(auditdb.Roles)), nil, "is not known"},
		{"policy eval /nowhere --to a.example", "as", "%s=x", policycmd.PrincipalKeys, nil, "has no key"},
		{"policy eval /nowhere --to a.example", "as", "repository=acme/a,deployment_type=%s", policycmd.DeploymentTypes, nil, "no deployment has this type"},
	} {
		t.Run(c.flag, func(t *testing.T) {
			t.Parallel()
			try := newInProcess(t, c.command)
			for _, word := range c.words {
				if text := try(c.flag, fmt.Sprintf(c.value, word)); strings.Contains(text, c.refused) {
					t.Errorf("%s itself is not accepted: %s", word, text)
				}
				for _, wrong := range misspelling.Of(word) {
					if slices.Contains(c.words, wrong) || slices.Contains(c.valid, wrong) {
						continue
					}
					if text := try(c.flag, fmt.Sprintf(c.value, wrong)); !strings.Contains(text, c.refused) {
						t.Errorf("%s is accepted instead of %s: %s", wrong, word, text)
					}
				}
			}
			// The same by the command line, in case that it takes another way there.
			line := append(strings.Fields(c.command), "--"+c.flag, fmt.Sprintf(c.value, misspelling.Of(c.words[0])[0]))
			var errOut bytes.Buffer
			if code := run(t.Context(), line, nil, io.Discard, &errOut); code != exitInvalid || !strings.Contains(errOut.String(), c.refused) {
				t.Errorf("%v: %d: %s", line, code, errOut.String())
			}
		})
	}
}

// newInProcess returns a function that gives a flag a value and runs the command, which is
// parsed once. It returns the text of the error.
func newInProcess(t *testing.T, line string) func(flag, value string) string {
	t.Helper()
	c, rest, err := newRoot().Find(strings.Fields(line))
	if err != nil {
		t.Fatal(err)
	}
	c.SetContext(t.Context())
	c.SetOut(io.Discard)
	c.SetErr(io.Discard)
	if err := c.ParseFlags(rest); err != nil {
		t.Fatal(err)
	}
	set := func(flag, value string) error {
		f := c.Flags().Lookup(flag)
		f.Changed = true
		if list, ok := f.Value.(pflag.SliceValue); ok {
			return list.Replace([]string{value})
		}
		return f.Value.Set(value)
	}
	return func(flag, value string) string {
		args, err := c.Flags().Args(), error(nil)
		if c.DisableFlagParsing {
			args = append(slices.Clone(rest), "--"+flag+"="+value)
		} else {
			err = set(flag, value)
		}
		if err == nil {
			err = c.RunE(c, args)
		}
		if err == nil {
			return ""
		}
		return err.Error()
	}
}

// TestMisspeltCommands: neither is a misspelling of a command.
func TestMisspeltCommands(t *testing.T) {
	t.Parallel()
	root := newRoot()
	var check func(parent *cobra.Command)
	check = func(parent *cobra.Command) {
		var names []string
		for _, c := range parent.Commands() {
			names = append(names, c.Name())
		}
		for _, c := range parent.Commands() {
			path := strings.Fields(parent.CommandPath())[1:]
			for _, wrong := range misspelling.Of(c.Name()) {
				found, rest, err := root.Find(append(path, wrong))
				if !slices.Contains(names, wrong) && err == nil && (found != parent || found.ValidateArgs(rest) == nil) {
					t.Errorf("%v accepts %s instead of %s", path, wrong, c.Name())
				}
			}
			check(c)
		}
	}
	check(root)
}
