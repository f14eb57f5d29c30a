package source

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/policy"
)

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
	if len(f[folder]) == maxFolderFaults {
		return true
	}
	at := strings.ToValidUTF8(path, "\uFFFD")
	if len(at) > maxPathBytes {
		at = strings.ToValidUTF8(at[:maxPathBytes], "") + "…"
	}
	f[folder] = append(f[folder], policy.Fault{Path: at, Message: message})
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
