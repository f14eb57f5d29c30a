// Package source reads policy from a directory or a Git repository, and keeps the last
// good revision on the local disk.
//
// A source reads a tree of files and hands it over as a [policy.Snapshot]. It
// does not understand what it reads: whether the files are a policy is the
// loader's business.
package source

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/policy"
)

// Directory reads the policy tree at path, once. It opens nothing outside of the
// tree: a symbolic link that leads out of it, to a folder, or to nothing is an
// error, and so is anything that is neither a file nor a folder under the name
// of a policy file. A file that changes while it is read is an error too, since
// no writer produced that state. The error is of type *[Refusal]. Safe for concurrent use.
func Directory(ctx context.Context, path string) (*policy.Snapshot, error) {
	// An os.Root resolves every name below path itself, links included, and
	// refuses what escapes. If names were checked first and opened later, a process
	// that writes to the tree could replace them in between.
	root, err := os.OpenRoot(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: create it, or correct policy.directory", err)
		}
		return nil, &Refusal{Kind: Unreachable, Err: fmt.Errorf("policy directory: %w", err)}
	}
	defer root.Close()
	snapshot, err := snapshotOf(ctx, root.FS(), defaultTreeBounds)
	if err != nil {
		return nil, refuse(ctx, "", fmt.Errorf("policy directory %s: %w", path, err))
	}
	return snapshot, nil
}

func snapshotOf(ctx context.Context, fsys fs.FS, bounds treeBounds) (*policy.Snapshot, error) {
	files, err := read(ctx, fsys, bounds)
	if err != nil {
		return nil, err
	}
	return policy.NewSnapshot(files, "")
}

// reader lists the files of one tree within the bounds, and then reads them.
type reader struct {
	ctx    context.Context
	fsys   fs.FS
	listed []treeEntry
	faults faults
}

func read(ctx context.Context, fsys fs.FS, bounds treeBounds) ([]policy.File, error) {
	r := &reader{ctx: ctx, fsys: fsys, faults: faults{}}
	if err := walkFolders(ctx, fsys, bounds, r.visit); err != nil {
		return nil, err
	}
	if len(r.listed)+len(r.faults) == 0 {
		return nil, errors.New("there is no policy in it: put rules into egress/*.rego, as in deploy/policy-repository")
	}
	listed, err := bound(r.listed, r.faults)
	if err != nil {
		return nil, err
	}
	var files []policy.File
	for _, e := range listed {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		content, err := r.content(e.path, e.size)
		if err == nil {
			files = append(files, policy.File{Path: e.path, Content: content})
			continue
		}
		if !r.faults.add(e.path, err) {
			return nil, fmt.Errorf("%s: %w", e.path, err)
		}
	}
	return r.faults.files(files), nil
}

// visit lists an entry. What is wrong in a repository's folder is a fault of that folder.
func (r *reader) visit(path string, entry fs.DirEntry, err error) error {
	if err == nil {
		err = r.list(path, entry)
	}
	if err == nil || errors.Is(err, fs.SkipDir) || !r.faults.add(path, err) {
		return err
	}
	if errors.Is(err, errFolderTooLarge) {
		folder := folderOf(path)
		r.listed = slices.DeleteFunc(r.listed, func(e treeEntry) bool { return folderOf(e.path) == folder })
	}
	return fs.SkipDir
}

func (r *reader) list(path string, entry fs.DirEntry) error {
	if len(path) > maxPathBytes || strings.Count(path, "/") > maxDepth {
		return checkPath(path)
	}
	if entry.IsDir() {
		return nil
	}
	if entry.Type()&fs.ModeSymlink != 0 {
		return r.link(path)
	}
	if !policy.Belongs(path) {
		return nil
	}
	return r.file(path)
}

// link follows a symbolic link to a file of the tree. A linked folder could make
// a tree without an end, and would give one rule two places.
func (r *reader) link(path string) error {
	info, err := fs.Stat(r.fsys, path)
	switch {
	case err != nil && policy.Belongs(path):
		return fmt.Errorf("%s is a symbolic link that leads out of the tree or nowhere: put the file itself there: %w", path, err)
	case err != nil:
		return nil // decides nothing, whatever it is
	case info.IsDir():
		return fmt.Errorf("%s is a symbolic link to a folder: put the folder itself there", path)
	case policy.Belongs(path):
		return r.file(path)
	}
	return nil
}

// file lists a file. A named pipe would block the open, so its kind is read first.
func (r *reader) file(path string) error {
	if err := checkPath(path); err != nil {
		return err
	}
	info, err := fs.Stat(r.fsys, path)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s: it is not a regular file", path)
	}
	r.listed = append(r.listed, treeEntry{path: path, size: info.Size()})
	return nil
}

// content reads a file that had a size when it was listed.
func (r *reader) content(path string, size int64) ([]byte, error) {
	if info, err := fs.Stat(r.fsys, path); err != nil || !info.Mode().IsRegular() {
		return nil, cmp.Or(err, errors.New("it is not a regular file"))
	}
	f, err := r.fsys.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	before, err := f.Stat() // the name may mean another thing by now
	if err != nil {
		return nil, err
	}
	if !before.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	content, err := io.ReadAll(io.LimitReader(f, size+1))
	if err != nil {
		return nil, err
	}
	after, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if int64(len(content)) != size || before.Size() != size || after.Size() != size || !after.ModTime().Equal(before.ModTime()) {
		return nil, errors.New("it changed while it was read")
	}
	return content, nil
}
