package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

// File is one file of a policy tree.
type File struct {
	Path    string // relative to the tree, with slashes, as [fs.ValidPath] has it
	Content []byte // read-only once it is part of a Snapshot
}

// Snapshot is one state of a policy tree: what a source hands to the loader. It
// is immutable and therefore safe for concurrent use.
type Snapshot struct {
	Files  []File // in ascending byte order of their paths
	Digest string // see [NewSnapshot]
	Commit string // the Git commit; empty where the source is a directory
}

// NewSnapshot puts files together. It refuses a path that is not valid, occurs
// twice, or does not belong to a policy tree (see [Belongs]).
//
// The digest is "sha256:" and the lower-case hexadecimal SHA-256 of, for each
// file in ascending byte order of its path: the path, a zero byte, the length
// of the content in plain decimal, a zero byte, the content. A path holds no
// zero byte, so different trees never have the same bytes, and a shell can
// compute it again.
func NewSnapshot(files []File, commit string) (*Snapshot, error) {
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	h := sha256.New()
	for i, f := range files {
		if !fs.ValidPath(f.Path) || f.Path == "." || strings.IndexByte(f.Path, 0) >= 0 {
			return nil, fmt.Errorf("policy: %q is not a path inside a policy tree", f.Path)
		}
		if !Belongs(f.Path) {
			return nil, fmt.Errorf("policy: %q is not a policy, test or data file", f.Path)
		}
		if i > 0 && files[i-1].Path == f.Path {
			return nil, fmt.Errorf("policy: %q occurs twice", f.Path)
		}
		h.Write([]byte(f.Path))
		h.Write([]byte{0})
		h.Write(strconv.AppendInt(nil, int64(len(f.Content)), 10))
		h.Write([]byte{0})
		h.Write(f.Content)
	}
	return &Snapshot{Files: files, Digest: "sha256:" + hex.EncodeToString(h.Sum(nil)), Commit: commit}, nil
}

// Revision names the snapshot.
func (s *Snapshot) Revision() Revision { return Revision{Digest: s.Digest, Commit: s.Commit} }

// LibraryFolder is where `sallyport policy vendor` writes the shipped library
// for editors and plain `opa test`, and where a loader puts the library's own
// files in what it keeps. Sources leave it out: a copy in the tree decides nothing.
const LibraryFolder = "vendor/sallyport"

// Belongs reports whether a file at this path is part of a policy tree: every
// *.rego, wherever it is, so that one in the wrong place is an error and not
// silently without effect; *.yaml, *.yml and *.json below data/; and for the same
// reason what is misnamed (see [CheckFileName]). Whatever else a repository holds, from its README to its pipeline, is not, and neither
// is what lies below a top-level folder whose name begins with a dot.
func Belongs(path string) bool {
	if strings.HasPrefix(path, ".") {
		return false
	}
	switch {
	case strings.HasSuffix(path, ".rego"):
		return true
	case strings.HasPrefix(path, "data/"):
		if strings.HasSuffix(path, ".yaml") || strings.HasSuffix(path, ".yml") || strings.HasSuffix(path, ".json") {
			return true
		}
	}
	message, _ := CheckFileName(path)
	return message != ""
}
