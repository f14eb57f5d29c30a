package source

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/sallyport/sallyport/policy"
)

// files reads the policy's files at a commit from the objects: without a work tree,
// nothing in the repository can place a file, a link or a hook on this machine.
func (g *Git) files(ctx context.Context, commit string) ([]policy.File, error) {
	root, err := g.root(ctx, commit)
	if err != nil {
		return nil, err
	}
	w := newTreeWalk(ctx, g, g.bounds)
	w.before, w.last = g.folders, g.last
	listed, err := w.list(root)
	if err != nil {
		return nil, err
	}
	if len(listed)+len(w.faults) == 0 {
		return nil, errors.New("there is no policy in it: put rules into egress/*.rego, as in deploy/policy-repository, and see policy.git.path")
	}
	if err := w.readAll(listed); err != nil {
		return nil, err
	}
	files := make([]policy.File, len(listed))
	for i, e := range listed {
		files[i] = policy.File{Path: e.path, Content: e.content}
	}
	files = w.faults.files(files)
	g.folders = w.folderObjects()
	return files, nil
}

// root returns the object of the policy's folder at a commit.
func (g *Git) root(ctx context.Context, commit string) (string, error) {
	folder := strings.Trim(path.Clean("/"+g.config.Path), "/")
	out, err := g.git(ctx, 1<<10, "rev-parse", "--verify", "--quiet", commit+":"+folder)
	name := strings.TrimSpace(string(out))
	switch {
	case err == nil && objectName.MatchString(name):
		return name, nil
	case ctx.Err() != nil:
		return "", ctx.Err()
	case err != nil && folder != "":
		return "", fmt.Errorf("there is no policy in it: it has no folder %s: correct policy.git.path", folder)
	}
	return "", fmt.Errorf("its tree cannot be read: %.80q: %w", name, err)
}
