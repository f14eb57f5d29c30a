package source

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/policy"
)

// measureFiles finds the sizes of the files that were listed.
func (w *treeWalk) measureFiles() error {
	unread := w.unread(w.listed)
	sizes, err := w.objects.sizes(w.ctx, objectNames(unread))
	if err != nil {
		return err
	}
	missing := map[string]bool{}
	for i, e := range unread {
		if e.size = sizes[i].size; sizes[i].kind == "blob" {
			continue
		}
		if err := w.fail(e.path, false, fmt.Errorf("%s is not a file: its object is missing or of another kind", e.path)); err != nil {
			return err
		}
		missing[e.path] = true
	}
	w.listed = slices.DeleteFunc(w.listed, func(e treeEntry) bool { return missing[e.path] })
	return nil
}

// rejectRepeated sorts what was listed, and rejects a path that is there twice: Git does
// not write such a tree, and accepts it.
func (w *treeWalk) rejectRepeated() error {
	slices.SortFunc(w.listed, func(a, b treeEntry) int { return strings.Compare(a.path, b.path) })
	repeated := map[string]bool{}
	for i := range w.listed[:max(0, len(w.listed)-1)] {
		at := w.listed[i].path
		if at != w.listed[i+1].path || repeated[at] {
			continue
		}
		if err := w.fail(at, false, fmt.Errorf("%s is in its folder twice", at)); err != nil {
			return err
		}
		repeated[at] = true
	}
	w.listed = slices.DeleteFunc(w.listed, func(e treeEntry) bool { return repeated[e.path] })
	return nil
}

// unread returns the entries whose content is not known.
func (w *treeWalk) unread(listed []treeEntry) []*treeEntry {
	var unread []*treeEntry
	for i := range listed {
		if !listed[i].read {
			unread = append(unread, &listed[i])
		}
	}
	return unread
}

func objectNames(entries []*treeEntry) []string {
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.object
	}
	return names
}

// readAll reads the contents that are not known.
func (w *treeWalk) readAll(listed []treeEntry) error {
	unread := w.unread(listed)
	sizes := make([]objectSize, len(unread))
	for i, e := range unread {
		sizes[i] = objectSize{"blob", e.size}
	}
	contents, err := w.objects.contents(w.ctx, objectNames(unread), sizes)
	if err != nil {
		return err
	}
	for i, e := range unread {
		e.content = contents[i]
	}
	return nil
}

// counts reports whether an item that is not a folder is part of a policy's tree. A link
// or submodule in the place of a repository's folder is: the folder's rules would be
// missing without a report.
func counts(at, mode string) bool {
	if strings.HasPrefix(at, policy.LibraryFolder+"/") {
		return false
	}
	if policy.Belongs(at) {
		return true
	}
	folder := folderOf(at)
	return folder != "" && (mode == modeSubmodule || mode == modeLink && at == folder)
}

// checkItem returns what is wrong with an item that counts, or nil.
func checkItem(at, mode string) error {
	switch {
	case mode == modeLink:
		return fmt.Errorf("%s is a symbolic link: put the file itself there", at)
	case mode == modeSubmodule:
		return fmt.Errorf("%s is a submodule: put the files themselves there", at)
	case !strings.HasPrefix(mode, "100"):
		return fmt.Errorf("%s is not a file: its mode is %s", at, mode)
	}
	return checkPath(at)
}
