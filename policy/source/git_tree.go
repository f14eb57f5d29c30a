package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/policy"
)

// treeEntry is one line of git ls-tree --long.
type treeEntry struct {
	mode, kind, object string
	size               int64 // -1: it has none
	path               string
}

// files reads the policy's files at a commit, straight out of the objects: no
// work tree is made, so nothing in the repository can place a file, a link or a
// hook on this machine.
func (g *Git) files(ctx context.Context, commit string) ([]policy.File, error) {
	arguments := []string{"ls-tree", "-r", "-z", "--long", "--full-tree", commit}
	folder := strings.Trim(path.Clean("/"+g.config.Path), "/")
	if folder != "" {
		arguments = append(arguments, "--", folder+"/")
	}
	listing, err := g.git(ctx, maxTreeListing, arguments...)
	if errors.Is(err, errOverLimit) {
		return nil, tooLarge{errors.New("its list of files is over 64 MiB: is it the right repository?")}
	}
	if err != nil {
		return nil, err
	}
	f := faults{}
	chosen, err := choose(listing, folder, f)
	if err != nil {
		return nil, err
	}
	if len(chosen) == 0 {
		return nil, errors.New("there is no policy in it: put rules into egress/*.rego, as in deploy/policy-repository, and see policy.git.path")
	}
	files, err := g.contents(ctx, chosen)
	if err != nil {
		return nil, err
	}
	return f.files(files), nil
}

// choose picks the policy's files out of a listing, within the bounds of a tree, and
// notes the faults of repositories' folders.
func choose(listing []byte, folder string, f faults) ([]treeEntry, error) {
	var chosen []treeEntry
	for line := range bytes.SplitSeq(listing, []byte{0}) {
		if len(line) == 0 {
			continue
		}
		e, err := parseEntry(string(line))
		if err != nil {
			return nil, err
		}
		if folder != "" {
			inside, ok := strings.CutPrefix(e.path, folder+"/")
			if !ok {
				continue
			}
			e.path = inside
		}
		if !e.counts() {
			continue
		}
		if err := e.check(); err != nil {
			if !f.add(e.path, err) {
				return nil, err
			}
			continue
		}
		chosen = append(chosen, e)
	}
	return bound(chosen, f)
}

// counts reports whether an entry is part of a policy's tree. A link or submodule in the
// place of a repository's folder is: the folder's rules would be missing without a word.
func (e *treeEntry) counts() bool {
	if strings.HasPrefix(e.path, policy.LibraryFolder+"/") {
		return false
	}
	if policy.Belongs(e.path) {
		return true
	}
	folder := folderOf(e.path)
	return folder != "" && (e.mode == modeSubmodule || e.mode == modeLink && e.path == folder)
}

// The modes of entries that are not files: gitformat-index(5).
const (
	modeLink      = "120000"
	modeSubmodule = "160000"
)

// check returns what is wrong with an entry, or nil.
func (e *treeEntry) check() error {
	switch {
	case e.mode == modeLink:
		return fmt.Errorf("%s is a symbolic link: put the file itself there", e.path)
	case e.mode == modeSubmodule:
		return fmt.Errorf("%s is a submodule: put the files themselves there", e.path)
	case e.kind != "blob" || e.size < 0:
		return fmt.Errorf("%s is not a file", e.path)
	}
	return checkPath(e.path)
}

// parseEntry reads "100644 blob <object> <size>\t<path>", the size padded.
func parseEntry(line string) (treeEntry, error) {
	about, name, ok := strings.Cut(line, "\t")
	words := strings.Fields(about)
	if !ok || len(words) != 4 || !objectName.MatchString(words[2]) || name == "" {
		return treeEntry{}, fmt.Errorf("git listed %.200q", line)
	}
	e := treeEntry{mode: words[0], kind: words[1], object: words[2], size: -1, path: name}
	if words[3] != "-" {
		size, err := strconv.ParseInt(words[3], 10, 64)
		if err != nil || size < 0 {
			return treeEntry{}, fmt.Errorf("git listed %.200q", line)
		}
		e.size = size
	}
	return e, nil
}

// contents reads the files' contents with one process.
func (g *Git) contents(ctx context.Context, chosen []treeEntry) ([]policy.File, error) {
	var ask bytes.Buffer
	total := int64(0)
	for _, e := range chosen {
		ask.WriteString(e.object)
		ask.WriteByte('\n')
		total += e.size
	}
	out, err := g.run(ctx, gitCall{
		arguments: []string{"cat-file", "--batch"}, input: &ask, limit: total + int64(len(chosen))*128,
	})
	if err != nil {
		return nil, err
	}
	return parseBatch(out, chosen)
}

// parseBatch reads what git cat-file --batch wrote: for each object a line of its
// name, kind and size, the content, and a line break.
func parseBatch(out []byte, chosen []treeEntry) ([]policy.File, error) {
	files := make([]policy.File, 0, len(chosen))
	for _, e := range chosen {
		head, rest, ok := bytes.Cut(out, []byte{'\n'})
		if !ok || string(head) != fmt.Sprintf("%s blob %d", e.object, e.size) || int64(len(rest)) <= e.size || rest[e.size] != '\n' {
			return nil, fmt.Errorf("%s: git gave %.100q for it", e.path, head)
		}
		files = append(files, policy.File{Path: e.path, Content: bytes.Clone(rest[:e.size])})
		out = rest[e.size+1:]
	}
	if len(out) > 0 {
		return nil, errors.New("git gave more than was asked for")
	}
	return files, nil
}
