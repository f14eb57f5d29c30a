package source

import (
	"fmt"
	"io/fs"
	"strings"
	"unicode/utf8"

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

// Bounds on the folder of one repository.
const (
	maxFolderFiles   = 1000
	maxFolderBytes   = 4 << 20
	maxFolderEntries = 10_000 // everything in it, other files and folders included
	maxFolderFaults  = 20     // that are reported
)

// treeBounds bound what is read of a tree. What is wrong in the folder of a repository,
// or exceeds the bounds there, is a fault of that folder.
type treeBounds struct {
	folderEntries, folderTreeBytes int64 // of each repository
	entries, treeBytes             int64 // of the organization; entries of all together, too

	// folder returns the folder of a repository that a path is or is in.
	folder func(path string) string
}

var defaultTreeBounds = treeBounds{
	folderEntries: maxFolderEntries, folderTreeBytes: 4 << 20,
	entries: maxEntries, treeBytes: 64 << 20,
	folder: folderOf,
}

// treeEntry is a file that a source lists.
type treeEntry struct {
	object  string // of Git
	size    int64
	path    string // from the policy's folder
	content []byte
	read    bool // the content is known
}

// tooLarge is a fault of a tree that is over a bound.
type tooLarge struct{ error }

// leftOut reports whether a folder is not looked into: .git and its like, and
// the vendored copy of the shipped library, which is for editors.
func leftOut(path string) bool {
	return path == policy.LibraryFolder || len(path) > 1 && path[0] == '.'
}

// maxFolderName bounds the name of a folder of a repository in what names the folder, in
// bytes. No repository has a name that long.
const maxFolderName = 200

// folderOf returns the folder of a repository that a path is or is in; "" if none. Names
// that no repository can have are folders, too: as text, and within a bound.
func folderOf(path string) string {
	rest, ok := strings.CutPrefix(path, "repositories/")
	if !ok {
		return ""
	}
	workspace, rest, _ := strings.Cut(rest, "/")
	repository, _, _ := strings.Cut(rest, "/")
	for _, name := range []string{workspace, repository} {
		if name == "" || name == "." || name == ".." {
			return ""
		}
	}
	if folder := path[:len("repositories/")+len(workspace)+1+len(repository)]; utf8.ValidString(folder) && max(len(workspace), len(repository)) <= maxFolderName {
		return folder
	}
	return "repositories/" + folderName(workspace) + "/" + folderName(repository)
}

// folderName returns a name as text, within its bound.
func folderName(name string) string {
	text := strings.ToValidUTF8(name, "\uFFFD")
	if len(text) <= maxFolderName {
		return text
	}
	return strings.ToValidUTF8(text[:maxFolderName-len("\uFFFD")], "") + "\uFFFD"
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
