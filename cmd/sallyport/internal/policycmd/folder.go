package policycmd

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/components"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/rego"
	"github.com/sallyport/sallyport/policy/source"
)

// loadTree loads the policy in a directory for asking. Its own tests are not run:
// `policy test` does that.
func loadTree(ctx context.Context, directory string, names bool) (*rego.Set, error) {
	snapshot, err := policyTree(ctx, directory)
	if err != nil {
		return nil, err
	}
	return components.LoadPolicy(ctx, directory, snapshot, rego.Options{Names: names})
}

// repositoryNames reads the file that --repositories names.
func repositoryNames(ctx context.Context, path string) ([]string, error) {
	text, err := cli.ReadInput(ctx, path, cli.MaxListInput)
	if err != nil {
		return nil, fmt.Errorf("--repositories %w", err)
	}
	names := []string{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		name := strings.TrimSpace(lines.Text())
		switch {
		case name == "" || strings.HasPrefix(name, "#"):
		case !plainFolder(name):
			return nil, fmt.Errorf("%s:%d: %.100q is not the full name of a repository: write one a line, such as acme/payments", path, n, name)
		default:
			names = append(names, name)
		}
	}
	return names, lines.Err()
}

// holdsPolicy reports whether there is any file of a policy below a directory.
func holdsPolicy(directory string) bool {
	found := false
	_ = fs.WalkDir(os.DirFS(directory), ".", func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && policy.Belongs(p) {
			found = true
			return fs.SkipAll
		}
		return nil
	})
	return found
}

// plainFolder reports whether a name is one that a repository's folder can have.
func plainFolder(name string) bool {
	workspace, repository, ok := strings.Cut(name, "/")
	for _, part := range []string{workspace, repository} {
		ok = ok && part != "" && part != "." && part != ".." && strings.Trim(part, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == "" && len(part) <= 128
	}
	return ok
}

const withoutNamesUsage = "check for a server without Bitbucket's REST API, where policy sees UUIDs only"

func policyTree(ctx context.Context, directory string) (*policy.Snapshot, error) {
	info, err := os.Stat(directory)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, cli.Invalid(fmt.Errorf("there is no %s: name the policy repository's directory; `sallyport policy init DIR` writes one to start from", directory))
	case err == nil && !info.IsDir():
		return nil, cli.Invalid(fmt.Errorf("%s is a file: name the policy repository's directory", directory))
	case err == nil && !holdsPolicy(directory):
		return nil, cli.Invalid(fmt.Errorf("%s: there is no policy in it: rules stand in egress/*.rego below it; `sallyport policy init DIR` writes a policy repository to start from", directory))
	}
	if above := repositoryAbove(directory); above != "" {
		return nil, cli.Invalid(fmt.Errorf("%s is a folder within a policy repository: name the repository's directory: %s", directory, above))
	}
	snapshot, err := source.Directory(ctx, directory)
	if err != nil {
		return nil, cli.Invalid(err)
	}
	return snapshot, nil
}

func printPolicyErrors(out io.Writer, directory, prefix string, list rego.Errors) {
	for _, e := range list {
		if e.File != "" {
			e.File = filepath.Join(directory, e.File)
		}
		fmt.Fprintf(out, "%s%v\n", prefix, e)
	}
}

func oneDirectory(c *cobra.Command, args []string) error {
	if err := cobra.ExactArgs(1)(c, args); err != nil {
		return cli.Invalid(fmt.Errorf("%w: the policy's directory\nsee: %s --help", err, c.CommandPath()))
	}
	return nil
}
