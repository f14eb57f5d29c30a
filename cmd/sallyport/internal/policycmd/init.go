package policycmd

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/deploy"
	"github.com/sallyport/sallyport/internal/printable"
	"github.com/sallyport/sallyport/policy"
)

func newPolicyInit() *cobra.Command {
	c := &cobra.Command{
		Use:   "init DIR",
		Short: "Write a starter policy repository",
		Long: `Write a starter policy repository into DIR: rules with their tests, lists,
and the pipeline that checks a change. Everything is in report mode in it, but for
the first guardrails: public paste sites, and the metadata services of the large
clouds.

  sallyport policy init egress-policy --workspace acme

With --workspace the files are for that workspace, and nothing in them is to be
renamed. Without it they hold examples too: acme and its repositories stand for
yours.

DIR is made where it is not there. Where it holds a policy already, or any file
that would be written, nothing is. docs/policy.md is the guide from there on.`,
		Args: oneDirectory,
	}
	workspace := c.Flags().String("workspace", "", "the `SLUG` of the workspace, as in Bitbucket's URLs")
	c.RunE = func(c *cobra.Command, args []string) error {
		if c.Flags().Changed("workspace") && !workspaceSlug.MatchString(*workspace) {
			return cli.Invalid(fmt.Errorf("--workspace %q: not the slug of a workspace: write it as in Bitbucket's URLs, in lower case", *workspace))
		}
		return writeTemplate(c.OutOrStdout(), args[0], *workspace)
	}
	return c
}

var workspaceSlug = regexp.MustCompile(`^[a-z0-9_-]{1,128}$`)

// examples are the template's files that are examples alone.
var examples = []string{"repositories/", "data/guardrails/hosts.yaml"}

// templateFiles are the files of the policy repository to start from: with examples,
// or, for a workspace, without them and with its name.
func templateFiles(workspace string) ([]policy.File, error) {
	template, err := fs.Sub(deploy.PolicyRepository, "policy-repository")
	if err != nil {
		return nil, err
	}
	instead, err := fs.Sub(deploy.PolicyWorkspace, "policy-workspace")
	if err != nil {
		return nil, err
	}
	var files []policy.File
	err = fs.WalkDir(template, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := fs.ReadFile(template, path)
		if workspace != "" && err == nil {
			for _, example := range examples {
				if strings.HasPrefix(path, example) {
					return nil
				}
			}
			if other, err := fs.ReadFile(instead, path); err == nil {
				content = other
			} else if !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			content = []byte(strings.ReplaceAll(string(content), "acme", workspace))
		}
		files = append(files, policy.File{Path: path, Content: content})
		return err
	})
	return files, err
}

// writeTemplate writes the policy repository to start from, whole or not at all.
func writeTemplate(out io.Writer, directory, workspace string) error {
	if holdsPolicy(directory) {
		return cli.Invalid(fmt.Errorf("%s holds a policy already, and nothing is written: run `sallyport policy check %s` to check it", directory, directory))
	}
	files, err := templateFiles(workspace)
	if err != nil {
		return err
	}
	var messages strings.Builder
	for _, f := range files {
		if _, err := os.Lstat(filepath.Join(directory, filepath.FromSlash(f.Path))); err == nil {
			return cli.Invalid(fmt.Errorf("%s is there already, and nothing is written: move it away, or name another directory", filepath.Join(directory, f.Path)))
		}
		fmt.Fprintf(&messages, "%s\n", f.Path)
	}
	if err := writeNew(directory, files); err != nil {
		return fmt.Errorf("write the policy repository: %w", err)
	}
	fmt.Fprintf(&messages, "%s: %s, in report mode for everything but the guardrails\n", directory, printable.Count(len(files), "file"))
	_, err = io.WriteString(out, messages.String())
	return err
}
