package main

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	auditlog "github.com/sallyport/sallyport/audit/postgres"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/auditcmd"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
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

// TestMisspeltWords: neither is a misspelling of a word in a flag that takes a list, or
// of a key in a pair. The command line is refused before a configuration is read.
func TestMisspeltWords(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		command string // %s is the word
		words   []string
		valid   []string // other words that may stand there
	}{
		{"audit query -c /nowhere --verdict %s", []string{"allow", "deny"}, nil},
		{"audit query -c /nowhere --mode %s", []string{"enforce", "report"}, nil},
		{"audit query -c /nowhere --kind %s", auditcmd.KindWords(), nil},
		{"audit tail -c /nowhere --decision-reason %s", auditcmd.ReasonWords, nil},
		{"audit query -c /nowhere --columns time,%s", []string{"host", "verdict", "close_reason", "dialed_address"}, auditlog.Columns(true)},
		{"audit psql --config /nowhere --role %s", []string{"writer", "auditor"}, nil},
		{"policy eval /nowhere --to a.example --as %s=x", policycmd.AskedKeys, nil},
	} {
		t.Run(c.command, func(t *testing.T) {
			t.Parallel()
			said := func(word string) string {
				var errOut bytes.Buffer
				if code := run(t.Context(), strings.Fields(fmt.Sprintf(c.command, word)), nil, io.Discard, &errOut); code != exitInvalid {
					t.Errorf("%s ended with %d", fmt.Sprintf(c.command, word), code)
				}
				return errOut.String()
			}
			refused := "is not known"
			if strings.Contains(c.command, "--as") {
				refused = "has no key"
			}
			for i, word := range c.words {
				if text := said(word); strings.Contains(text, refused) {
					t.Errorf("%s itself is not accepted: %s", word, text)
				}
				wrongs := misspelling.Of(word)
				for _, wrong := range wrongs { // all of every word, by the function that decides
					if cli.OneOf("--flag", wrong, []string{word}) == nil {
						t.Errorf("%s is known instead of %s", wrong, word)
					}
				}
				switch { // by the whole command line, fewer of long lists
				case i > 3:
					wrongs = wrongs[:20]
				case i > 0:
					wrongs = misspelling.Near(word)
				}
				for _, wrong := range wrongs {
					if !slices.Contains(c.words, wrong) && !slices.Contains(c.valid, wrong) && !strings.Contains(said(wrong), refused) {
						t.Errorf("%s is accepted instead of %s", wrong, word)
					}
				}
			}
		})
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
