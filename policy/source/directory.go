// Package source says where policy comes from.
//
// A source reads a tree of files and hands it over as a [policy.Snapshot]. It
// does not understand what it reads: whether the files are a policy is the
// loader's business.
package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/sallyport/sallyport/policy"
)

// Bounds on a tree. They keep a mistake (a checkout of everything, a file that
// never ends) from taking the memory of a process that lets builds out.
const (
	MaxFiles     = 250_000   // policy, test and data files: 50,000 repositories with rules, tests and a document each
	MaxBytes     = 128 << 20 // of their contents together
	maxEntries   = 1_000_000 // everything that is checked, folders included
	maxDepth     = 32        // folders within folders
	maxPathBytes = 1024
)

// Directory reads the policy tree at path, once. It opens nothing outside of the
// tree: a symbolic link that leads out of it, to a folder, or to nothing is an
// error, and so is anything that is neither a file nor a folder under the name
// of a policy file. A file that changes while it is read is an error too, since
// nobody wrote that state. The error is of type *[Refusal]. Safe for concurrent use.
func Directory(ctx context.Context, path string) (*policy.Snapshot, error) {
	// An os.Root resolves every name below path itself, links included, and
	// refuses what escapes; checking names first and opening them later could
	// be outrun by whoever writes to the tree.
	root, err := os.OpenRoot(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: create it, or correct policy.directory", err)
		}
		return nil, &Refusal{Kind: Unreachable, Err: fmt.Errorf("policy directory: %w", err)}
	}
	defer root.Close()
	snapshot, err := snapshotOf(ctx, root.FS())
	if err != nil {
		return nil, refuse(ctx, "", fmt.Errorf("policy directory %s: %w", path, err))
	}
	return snapshot, nil
}

func snapshotOf(ctx context.Context, fsys fs.FS) (*policy.Snapshot, error) {
	files, err := read(ctx, fsys)
	if err != nil {
		return nil, err
	}
	return policy.NewSnapshot(files, "")
}

// reader collects the files of one tree within the bounds.
type reader struct {
	ctx     context.Context
	fsys    fs.FS
	files   []policy.File
	entries int
	bytes   int64
}

func read(ctx context.Context, fsys fs.FS) ([]policy.File, error) {
	r := &reader{ctx: ctx, fsys: fsys}
	if err := fs.WalkDir(fsys, ".", r.visit); err != nil {
		return nil, err
	}
	if len(r.files) == 0 {
		return nil, errors.New("there is no policy in it: put rules into egress/*.rego, as in deploy/policy-repository")
	}
	return r.files, nil
}

func (r *reader) visit(path string, entry fs.DirEntry, err error) error {
	if err != nil {
		return err
	}
	if err := r.ctx.Err(); err != nil {
		return err
	}
	if r.entries++; r.entries > maxEntries {
		return tooLarge{fmt.Errorf("it holds more than %d files and folders: is it the right folder?", maxEntries)}
	}
	if len(path) > maxPathBytes || strings.Count(path, "/") > maxDepth {
		return tooLarge{fmt.Errorf("%.100q lies too deep: at most %d folders and %d bytes of path", path, maxDepth, maxPathBytes)}
	}
	if entry.IsDir() {
		if leftOut(path) {
			return fs.SkipDir
		}
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

// leftOut reports whether a folder is not looked into: .git and its like, and
// the vendored copy of the shipped library, which is for editors.
func leftOut(path string) bool {
	return path == policy.LibraryFolder || len(path) > 1 && path[0] == '.'
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

func (r *reader) file(path string) error {
	if len(r.files) == MaxFiles {
		return tooLarge{fmt.Errorf("it holds more than %d policy and data files", MaxFiles)}
	}
	content, err := r.content(path)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	r.bytes += int64(len(content))
	r.files = append(r.files, policy.File{Path: path, Content: content})
	return nil
}

func (r *reader) content(path string) ([]byte, error) {
	// A named pipe would block the open itself, so its kind is asked for first;
	// the handle is asked again, since the name may mean another thing by then.
	info, err := fs.Stat(r.fsys, path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	f, err := r.fsys.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	before, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !before.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	left := MaxBytes - r.bytes
	if before.Size() > left {
		return nil, tooLarge{fmt.Errorf("with it the policy and data files are over %d MiB together", MaxBytes>>20)}
	}
	content, err := io.ReadAll(io.LimitReader(f, left+1))
	if err != nil {
		return nil, err
	}
	after, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if int64(len(content)) != before.Size() || after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime()) {
		return nil, errors.New("it changed while it was read")
	}
	return content, nil
}
