package source

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/policy"
)

// maxReadAtOnce is how many bytes of tree objects one process reads.
const maxReadAtOnce = 16 << 20

// treeWalk lists the policy's files in a tree of Git. It reads the tree objects level by
// level, the sizes before the contents. Thus a folder costs no more than its bounds,
// whatever its objects expand to. Not safe for concurrent use.
type treeWalk struct {
	ctx     context.Context
	objects objects
	bounds  treeBounds
	faults  faults

	organization treeTotal
	folders      map[string]*treeTotal // by the folder of a repository
	entries      int64                 // of all together
	leftLargest  bool                  // folders were left out because all together had too many
	listed       []treeEntry
	trees        map[string]string // the tree objects of the repositories' folders

	// The folders of the commit before, and its files: a folder with the same object has
	// the same files.
	before map[string]folderRead
	last   *policy.Snapshot
}

// folderRead is the folder of a repository that was read without a fault.
type folderRead struct {
	object  string
	entries int64
}

// treeTotal is what was read of a part of the tree.
type treeTotal struct {
	entries, treeBytes int64
	left               bool // out, because of a fault
}

// tree is a tree object and its place.
type tree struct {
	object, path string
	folder       string // of the repository that it is in; "": none
	size         objectSize
}

func newTreeWalk(ctx context.Context, o objects, b treeBounds) *treeWalk {
	return &treeWalk{ctx: ctx, objects: o, bounds: b, faults: faults{}, folders: map[string]*treeTotal{}, trees: map[string]string{}}
}

// list returns the files below a tree object that belong to a policy, sorted by path,
// within the bounds of a tree.
func (w *treeWalk) list(root string) ([]treeEntry, error) {
	level := []tree{{object: root}}
	for len(level) > 0 {
		var err error
		if level, err = w.expand(level); err != nil {
			return nil, err
		}
	}
	if w.leftLargest && w.before != nil {
		// Which folders were left out depends on the order of reading: it must be the
		// same for every process.
		again := newTreeWalk(w.ctx, w.objects, w.bounds)
		listed, err := again.list(root)
		*w = *again
		return listed, err
	}
	w.listed = slices.DeleteFunc(w.listed, func(e treeEntry) bool { return w.isLeft(folderOf(e.path)) })
	if err := w.measureFiles(); err != nil {
		return nil, err
	}
	if err := w.rejectRepeated(); err != nil {
		return nil, err
	}
	return bound(w.listed, w.faults)
}

func (w *treeWalk) isLeft(folder string) bool {
	t := w.folders[folder]
	return t != nil && t.left
}

// total returns the part of the tree that a folder is; "" is the organization.
func (w *treeWalk) total(folder string) *treeTotal {
	if folder == "" {
		return &w.organization
	}
	t := w.folders[folder]
	if t == nil {
		t = &treeTotal{}
		w.folders[folder] = t
	}
	return t
}

// fail notes what is wrong at a path: a fault of the folder of a repository, which leaves
// that folder out if all is set. Elsewhere it returns the error.
func (w *treeWalk) fail(at string, all bool, err error) error {
	folder := w.bounds.folder(at)
	if folder == "" {
		return err
	}
	w.faults.add(at, err)
	if all {
		w.total(folder).left = true
	}
	return nil
}

// expand reads the trees of one level, and returns those of the next one.
func (w *treeWalk) expand(level []tree) (next []tree, err error) {
	if level, err = w.measureTrees(level); err != nil {
		return nil, err
	}
	for len(level) > 0 {
		var some []tree
		some, level = splitTrees(level, maxReadAtOnce)
		names, sizes := make([]string, len(some)), make([]objectSize, len(some))
		for i, t := range some {
			names[i], sizes[i] = t.object, t.size
		}
		contents, err := w.objects.contents(w.ctx, names, sizes)
		if err != nil {
			return nil, err
		}
		for i, t := range some {
			if next, err = w.visitAll(t, contents[i], next); err != nil {
				return nil, err
			}
		}
		w.leaveLargest()
		level = slices.DeleteFunc(level, func(t tree) bool { return w.isLeft(t.folder) })
	}
	return slices.DeleteFunc(next, func(t tree) bool { return w.isLeft(t.folder) }), nil
}

// splitTrees takes trees from the front, at least one and at most so many bytes.
func splitTrees(level []tree, bytes int64) (some, rest []tree) {
	n, total := 0, int64(0)
	for n < len(level) && (n == 0 || total+level[n].size.size <= bytes) {
		total += level[n].size.size
		n++
	}
	return level[:n], level[n:]
}

// measureTrees finds the sizes of trees, and leaves out folders that exceed their bound.
func (w *treeWalk) measureTrees(level []tree) ([]tree, error) {
	names := make([]string, len(level))
	for i, t := range level {
		names[i] = t.object
	}
	sizes, err := w.objects.sizes(w.ctx, names)
	if err != nil {
		return nil, err
	}
	for i := range level {
		t := &level[i]
		t.size = sizes[i]
		total := w.total(t.folder)
		if t.size.kind != "tree" {
			if err := w.fail(t.path, true, fmt.Errorf("%s is not a folder: its object is missing or of another kind", cmp.Or(t.path, "the policy's folder"))); err != nil {
				return nil, err
			}
			continue
		}
		total.treeBytes += t.size.size
		switch {
		case t.folder == "" && total.treeBytes > w.bounds.treeBytes:
			return nil, tooLarge{fmt.Errorf("the names of its files and folders are over %d MiB: is it the right repository?", w.bounds.treeBytes>>20)}
		case t.folder != "" && total.treeBytes > w.bounds.folderTreeBytes && !total.left:
			_ = w.fail(t.folder, true, fmt.Errorf("the names of files and folders in it are over %d MiB: remove what is not policy", w.bounds.folderTreeBytes>>20))
		}
	}
	return slices.DeleteFunc(level, func(t tree) bool { return w.isLeft(t.folder) }), nil
}

// visitAll lists the items of one tree, and appends its trees to next.
func (w *treeWalk) visitAll(t tree, content []byte, next []tree) ([]tree, error) {
	items, err := parseTree(content, len(t.object)/2)
	if err != nil {
		return next, w.fail(t.path, true, fmt.Errorf("%s: %w", t.path, err))
	}
	total := w.total(t.folder)
	for _, item := range items {
		if total.left {
			break
		}
		if next, err = w.visit(t, item, next); err != nil {
			return nil, err
		}
	}
	return next, nil
}

// visit lists one item of a tree.
func (w *treeWalk) visit(in tree, item treeItem, next []tree) ([]tree, error) {
	at := item.name
	if in.path != "" {
		at = in.path + "/" + at
	}
	folder := in.folder
	if folder == "" {
		folder = w.bounds.folder(at)
	}
	if err := w.count(folder); err != nil {
		return nil, err
	}
	if len(at) > maxPathBytes || strings.Count(at, "/") > maxDepth {
		return next, w.fail(at, false, checkPath(at))
	}
	if item.mode == modeTree {
		if leftOut(at) || in.folder == "" && folder != "" && w.reuse(folder, at, item.object) {
			return next, nil
		}
		return append(next, tree{object: item.object, path: at, folder: folder}), nil
	}
	if !counts(at, item.mode) {
		return next, nil
	}
	if err := checkItem(at, item.mode); err != nil {
		return next, w.fail(at, false, err)
	}
	w.listed = append(w.listed, treeEntry{object: item.object, path: at})
	return next, nil
}

// count counts an item of a folder, or of the organization.
func (w *treeWalk) count(folder string) error {
	total := w.total(folder)
	total.entries++
	w.entries++
	switch {
	case folder == "" && total.entries > w.bounds.entries:
		return tooLarge{fmt.Errorf("it holds more than %d files and folders: is it the right repository?", w.bounds.entries)}
	case folder != "" && total.entries > w.bounds.folderEntries && !total.left:
		return w.fail(folder, true, fmt.Errorf("the folder holds more than %d files and folders", w.bounds.folderEntries))
	}
	return nil
}

// leaveLargest leaves out the folders of repositories with the most entries while all
// together have too many.
func (w *treeWalk) leaveLargest() {
	if w.entries <= w.bounds.entries {
		return
	}
	folders := slices.SortedFunc(maps.Keys(w.folders), func(a, b string) int {
		return cmp.Or(cmp.Compare(w.folders[b].entries, w.folders[a].entries), cmp.Compare(a, b))
	})
	for _, folder := range folders {
		t := w.folders[folder]
		if w.entries <= w.bounds.entries {
			return
		}
		w.entries -= t.entries
		t.entries = 0
		if !t.left {
			w.leftLargest = true
			_ = w.fail(folder, true, fmt.Errorf("the tree holds more than %d files and folders, and this folder is the largest", w.bounds.entries))
		}
	}
}

// reuse lists the files of a folder of a repository that is the same as in the commit
// before.
func (w *treeWalk) reuse(folder, at, object string) bool {
	if folder != at {
		return false // the name is not text
	}
	w.trees[folder] = object
	before := w.before[folder]
	if w.last == nil || before.object != object {
		return false
	}
	w.total(folder).entries += before.entries
	w.entries += before.entries
	files := w.last.Files
	first, _ := slices.BinarySearchFunc(files, folder+"/", func(f policy.File, prefix string) int { return strings.Compare(f.Path, prefix) })
	for _, f := range files[first:] {
		if !strings.HasPrefix(f.Path, folder+"/") {
			break
		}
		w.listed = append(w.listed, treeEntry{path: f.Path, size: int64(len(f.Content)), content: f.Content, read: true})
	}
	return true
}

// folderObjects returns the tree objects of the folders of repositories that were read in
// full.
func (w *treeWalk) folderObjects() map[string]folderRead {
	read := make(map[string]folderRead, len(w.trees))
	for folder, object := range w.trees {
		if w.faults[folder] == nil {
			read[folder] = folderRead{object, w.folders[folder].entries - 1} // without itself
		}
	}
	return read
}
