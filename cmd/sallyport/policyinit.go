package main

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/deploy"
	"github.com/sallyport/sallyport/policy"
)

func newPolicyInit() *cobra.Command {
	return &cobra.Command{
		Use:   "init DIR",
		Short: "Write a policy repository to start from",
		Long: `Write a policy repository to start from into DIR: rules with their tests, lists,
and the pipeline that checks a change. Everything is in report mode in it, but for
the first guardrails. acme and its repositories stand for yours.

  mkdir egress-policy
  cd egress-policy
  sallyport policy init .

DIR is made where it is not there. Where it holds a policy already, or any file
that would be written, nothing is. docs/policy.md is the guide from there on.`,
		Args: oneDirectory,
		RunE: func(c *cobra.Command, args []string) error {
			return writeTemplate(c.OutOrStdout(), args[0])
		},
	}
}

// writeTemplate writes the policy repository to start from, whole or not at all.
func writeTemplate(out io.Writer, directory string) error {
	template, err := fs.Sub(deploy.PolicyRepository, "policy-repository")
	if err != nil {
		return err
	}
	if holdsPolicy(directory) {
		return invalid{fmt.Errorf("%s holds a policy already, and nothing is written: `sallyport policy check %s` says what of it", directory, directory)}
	}
	var files []policy.File
	err = fs.WalkDir(template, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if _, err := os.Lstat(filepath.Join(directory, filepath.FromSlash(path))); err == nil {
			return invalid{fmt.Errorf("%s is there already, and nothing is written: move it away, or name another directory", filepath.Join(directory, path))}
		}
		content, err := fs.ReadFile(template, path)
		files = append(files, policy.File{Path: path, Content: content})
		return err
	})
	if err != nil {
		return err
	}
	if err := writeNew(directory, files); err != nil {
		return fmt.Errorf("write the policy repository: %w", err)
	}
	var told strings.Builder
	for _, f := range files {
		fmt.Fprintf(&told, "%s\n", f.Path)
	}
	fmt.Fprintf(&told, "%s: %d files, in report mode for everything but the guardrails\n", directory, len(files))
	_, err = io.WriteString(out, told.String())
	return err
}
