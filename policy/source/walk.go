package source

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
)

// errFolderTooLarge is a fault of the folder of a repository.
var errFolderTooLarge = errors.New("remove what is not policy")

// visitFunc is called for each file and folder, folders before what is in them. For a
// folder, [fs.SkipDir] leaves out what is in it; for a file it has no effect. err is why
// the folder cannot be read; where it is [errFolderTooLarge], path is a folder of a
// repository of which the walk visits nothing more.
type visitFunc func(path string, entry fs.DirEntry, err error) error

// folderWalk is a walk through a directory.
type folderWalk struct {
	ctx     context.Context
	fsys    fs.FS
	bounds  treeBounds
	visit   visitFunc
	entries int64  // read so far
	folder  string // of a repository that the walk is in
	inside  int64  // entries read in it
	over    bool   // its bound
}

// walkFolders walks through a directory as [fs.WalkDir] does, and leaves out what [leftOut]
// reports. Of the folder of a repository it reads no more entries than its bound: who can
// write there does not make the walk take longer.
func walkFolders(ctx context.Context, fsys fs.FS, bounds treeBounds, visit visitFunc) error {
	w := &folderWalk{ctx: ctx, fsys: fsys, bounds: bounds, visit: visit}
	return w.walk(".")
}

func (w *folderWalk) walk(folder string) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	entries, err := w.read(folder)
	if err != nil {
		return w.unread(folder, err)
	}
	for _, entry := range entries {
		if w.over && w.bounds.folder(folder) == w.folder {
			return nil
		}
		path := entry.Name()
		if folder != "." {
			path = folder + "/" + path
		}
		if entry.IsDir() && leftOut(path) {
			continue
		}
		err := w.visit(path, entry, nil)
		if err == nil && entry.IsDir() {
			err = w.walk(path)
		}
		if err != nil && !errors.Is(err, fs.SkipDir) {
			return err
		}
	}
	return nil
}

// unread reports a folder that cannot be read.
func (w *folderWalk) unread(folder string, err error) error {
	if _, all := errors.AsType[tooLarge](err); all {
		return err
	}
	if errors.Is(err, errFolderTooLarge) {
		folder = w.folder
	}
	if err = w.visit(folder, nil, err); errors.Is(err, fs.SkipDir) {
		return nil
	}
	return err
}

// read returns the entries of a folder, sorted by name.
func (w *folderWalk) read(folder string) ([]fs.DirEntry, error) {
	repository := w.bounds.folder(folder)
	if repository != w.folder {
		w.folder, w.inside, w.over = repository, 0, false
	}
	if w.over {
		return nil, nil
	}
	left := w.bounds.entries - w.entries
	if repository != "" {
		left = min(left, w.bounds.folderEntries-w.inside)
	}
	f, err := w.fsys.Open(folder)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	directory, ok := f.(fs.ReadDirFile)
	if !ok {
		return nil, fmt.Errorf("%s is not a folder", folder)
	}
	entries, err := directory.ReadDir(int(left) + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	w.entries += int64(len(entries))
	w.inside += int64(len(entries))
	switch {
	case w.entries > w.bounds.entries:
		return nil, tooLarge{fmt.Errorf("it holds more than %d files and folders: is it the right folder?", w.bounds.entries)}
	case repository != "" && w.inside > w.bounds.folderEntries:
		w.over = true
		return nil, fmt.Errorf("the folder holds more than %d files and folders: %w", w.bounds.folderEntries, errFolderTooLarge)
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
	return entries, nil
}
