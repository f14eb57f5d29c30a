package source

import (
	"cmp"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/policy"
)

// Bounds on the folder of one repository.
const (
	maxFolderFiles   = 1000
	maxFolderBytes   = 4 << 20
	maxFolderEntries = 10_000 // everything in it, other files and folders included
)

// folderOf returns the folder of a repository that a path is or is in; "" if none.
func folderOf(path string) string {
	parts := strings.SplitN(path, "/", 4)
	if len(parts) < 3 || parts[0] != "repositories" {
		return ""
	}
	folder := strings.Join(parts[:3], "/")
	if !fs.ValidPath(folder) {
		return ""
	}
	return folder
}

// faults are the faults of the folders of repositories, by folder: they reject that
// repository's policy, and not the tree.
type faults map[string][]policy.Fault

// add notes a fault, and reports whether it is one of a repository's folder.
func (f faults) add(path string, err error) bool {
	folder := folderOf(path)
	if folder == "" {
		return false
	}
	message := strings.TrimPrefix(err.Error(), path+": ")
	if rest, ok := strings.CutPrefix(message, path+" is "); ok {
		message = "it is " + rest
	}
	f[folder] = append(f[folder], policy.Fault{Path: strings.ToValidUTF8(path, "\uFFFD"), Message: message})
	return true
}

// files adds the files that stand for faults.
func (f faults) files(files []policy.File) []policy.File {
	for _, folder := range slices.Sorted(maps.Keys(f)) {
		stands := policy.FaultFile(folder, f[folder])
		files = slices.DeleteFunc(files, func(file policy.File) bool { return file.Path == stands.Path })
		files = append(files, stands)
	}
	return files
}

// bound applies the bounds of a tree to what it lists. A folder of a repository that is
// over its own bounds is a fault, and left out. If the tree is over its bounds, the
// largest folders are left out until it is not; what is left of it is the organization's,
// and an error if it is over the bounds alone.
func bound(listed []treeEntry, f faults) ([]treeEntry, error) {
	type total struct {
		folder string
		files  int
		bytes  int64
	}
	var all, organization total
	folders := map[string]*total{}
	for _, e := range listed {
		t := &organization
		if folder := folderOf(e.path); folder != "" {
			if t = folders[folder]; t == nil {
				t = &total{folder: folder}
				folders[folder] = t
			}
		}
		t.files, t.bytes = t.files+1, t.bytes+e.size
		all.files, all.bytes = all.files+1, all.bytes+e.size
		if t == &organization && t.bytes > MaxBytes {
			return nil, tooLarge{fmt.Errorf("%s: with it the policy and data files are over %d MiB together", e.path, MaxBytes>>20)}
		}
	}
	if organization.files > MaxFiles {
		return nil, tooLarge{fmt.Errorf("it holds more than %d policy and data files", MaxFiles)}
	}
	left := map[string]bool{}
	leave := func(t *total, message string) {
		left[t.folder] = true
		all.files, all.bytes = all.files-t.files, all.bytes-t.bytes
		f.add(t.folder, fmt.Errorf("the folder has %d policy files with %d bytes: %s", t.files, t.bytes, message))
	}
	sorted := slices.SortedFunc(maps.Values(folders), func(a, b *total) int {
		return cmp.Or(cmp.Compare(b.bytes, a.bytes), cmp.Compare(b.files, a.files), cmp.Compare(a.folder, b.folder))
	})
	for _, t := range sorted {
		switch {
		case t.files > maxFolderFiles || t.bytes > maxFolderBytes:
			leave(t, fmt.Sprintf("at most %d files with %d MiB are accepted", maxFolderFiles, maxFolderBytes>>20))
		case all.files > MaxFiles || all.bytes > MaxBytes:
			leave(t, fmt.Sprintf("the tree is over %d files or %d MiB, and this folder is the largest", MaxFiles, MaxBytes>>20))
		}
	}
	return slices.DeleteFunc(listed, func(e treeEntry) bool { return left[folderOf(e.path)] }), nil
}

// checkPath returns what is wrong with the path of a file of a policy, or nil.
func checkPath(path string) error {
	switch {
	case len(path) > maxPathBytes || strings.Count(path, "/") > maxDepth:
		return tooLarge{fmt.Errorf("%.100q lies too deep: at most %d folders and %d bytes of path", path, maxDepth, maxPathBytes)}
	case !fs.ValidPath(path) || strings.IndexByte(path, 0) >= 0:
		return fmt.Errorf("%.100q is not a path in UTF-8: rename it", path)
	}
	return nil
}
