package source

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/policy"
)

// memoryObjects are objects in memory, by their names.
type memoryObjects map[string]memoryObject

type memoryObject struct{ kind, content string }

// add stores an object and returns its name.
func (m memoryObjects) add(kind, content string) string {
	name := fmt.Sprintf("%x", sha1.Sum([]byte(kind+" "+strconv.Itoa(len(content))+"\x00"+content)))
	m[name] = memoryObject{kind, content}
	return name
}

// tree stores a tree of items, each a mode, a name and the name of an object.
func (m memoryObjects) tree(items ...[3]string) string {
	var b strings.Builder
	for _, item := range items {
		b.WriteString(item[0] + " " + item[1] + "\x00")
		for i := 0; i < len(item[2]); i += 2 {
			n, _ := strconv.ParseUint(item[2][i:i+2], 16, 8)
			b.WriteByte(byte(n))
		}
	}
	return m.add("tree", b.String())
}

// at stores the trees of the folders of a path around an object.
func (m memoryObjects) at(path, mode, object string) string {
	parts := strings.Split(path, "/")
	for _, name := range slices.Backward(parts) {
		object, mode = m.tree([3]string{mode, name, object}), modeTree
	}
	return object
}

func (m memoryObjects) sizes(_ context.Context, names []string) ([]objectSize, error) {
	var sizes []objectSize
	for _, name := range names {
		o := m[name]
		sizes = append(sizes, objectSize{o.kind, int64(len(o.content))})
	}
	return sizes, nil
}

func (m memoryObjects) contents(_ context.Context, names []string, sizes []objectSize) ([][]byte, error) {
	var contents [][]byte
	for i, name := range names {
		o, ok := m[name]
		if !ok || sizes[i] != (objectSize{o.kind, int64(len(o.content))}) {
			return nil, fmt.Errorf("object %s", name)
		}
		contents = append(contents, []byte(o.content))
	}
	return contents, nil
}

// repositoryTree stores a tree with the organization's rule and two folders of
// repositories: website, and tools with some items.
func repositoryTree(m memoryObjects, tools ...[3]string) string {
	rule := m.add("blob", ruleText)
	workspace := m.tree([3]string{modeTree, "tools", m.tree(tools...)}, [3]string{modeTree, "website", m.tree([3]string{"100644", "a.rego", rule})})
	return m.tree([3]string{modeTree, "egress", m.tree([3]string{"100644", "a.rego", rule})}, [3]string{modeTree, "repositories", m.tree([3]string{modeTree, "acme", workspace})})
}

// hostileFolders are folders of a repository that a user with access to that folder alone
// can commit.
var hostileFolders = map[string]struct {
	items func(m memoryObjects) [][3]string
	path  string // of the fault, in the folder; "-": the folder
	says  string
}{
	"many files": {func(m memoryObjects) [][3]string {
		return manyItems("100644", "%d.md", m.add("blob", "x"), maxEntries+1)
	},
		"-", "are over 4 MiB"},
	"many small files": {func(m memoryObjects) [][3]string {
		return manyItems("100644", "%d.md", m.add("blob", "x"), maxFolderEntries+1)
	}, "-", "the folder holds more than 10000 files and folders"},
	"many folders": {func(m memoryObjects) [][3]string {
		return manyItems(modeTree, "%d", m.tree([3]string{"100644", "a.md", m.add("blob", "x")}), maxFolderEntries/2+1)
	}, "-", "the folder holds more than 10000 files and folders"},
	"a tree that expands": {func(m memoryObjects) [][3]string {
		item := [3]string{"100644", "a.md", m.add("blob", "x")}
		for range 20 {
			item = [3]string{modeTree, "a", m.tree(manyItems(item[0], "%d", item[2], 1000)...)}
		}
		return [][3]string{item}
	}, "-", "are over 4 MiB"},
	"long names": {func(m memoryObjects) [][3]string {
		return manyItems("100644", "%d"+strings.Repeat("n", 100_000)+".md", m.add("blob", "x"), 60)
	}, "-", "the names of files and folders in it are over 4 MiB"},
	"many rules": {func(m memoryObjects) [][3]string {
		return manyItems("100644", "%d.rego", m.add("blob", ruleText), maxFolderFiles+1)
	}, "-", "at most 1000 files with 4 MiB"},
	"too deep": {func(m memoryObjects) [][3]string {
		return [][3]string{{modeTree, "a", m.at(strings.Repeat("a/", 40)+"a.rego", "100644", m.add("blob", ruleText))}}
	}, "a/a/a", "lies too deep"},
	"a file twice": {func(m memoryObjects) [][3]string {
		return [][3]string{{"100644", "a.rego", m.add("blob", ruleText)}, {"100644", "a.rego", m.add("blob", "x")}}
	}, "a.rego", "it is in its folder twice"},
	"another's folder": {func(m memoryObjects) [][3]string {
		return [][3]string{{"100644", "../website/a.rego", m.add("blob", "x")}, {modeTree, "..", m.tree([3]string{"100644", "b.rego", m.add("blob", "x")})}}
	}, "../website/a.rego", "is not a path in UTF-8"},
	"a long name": {func(m memoryObjects) [][3]string {
		return [][3]string{{"100644", strings.Repeat("n", 1<<20) + ".rego", m.add("blob", ruleText)}}
	}, "nnn", "lies too deep"},
	"a malformed tree": {func(m memoryObjects) [][3]string {
		return [][3]string{{modeTree, "sub", m.add("tree", "100644 a.rego")}}
	},
		"sub", "the tree object is malformed"},
	"a file for a folder": {func(m memoryObjects) [][3]string { return [][3]string{{modeTree, "sub", m.add("blob", ruleText)}} },
		"sub", "it is not a folder"},
	"a folder for a file": {func(m memoryObjects) [][3]string { return [][3]string{{"100644", "a.rego", m.tree()}} }, "a.rego", "it is not a file"},
	"a strange mode":      {func(m memoryObjects) [][3]string { return [][3]string{{"777", "a.rego", m.add("blob", ruleText)}} }, "a.rego", "its mode is 777"},
	"a missing object":    {func(memoryObjects) [][3]string { return [][3]string{{"100644", "a.rego", someObject}} }, "a.rego", "its object is missing"},
	"a link":              {func(m memoryObjects) [][3]string { return [][3]string{{modeLink, "a.rego", m.add("blob", "x")}} }, "a.rego", "it is a symbolic link"},
	"a submodule":         {func(memoryObjects) [][3]string { return [][3]string{{modeSubmodule, "sub", someObject}} }, "sub", "it is a submodule"},
	"a name not in UTF-8": {func(m memoryObjects) [][3]string { return [][3]string{{"100644", "\xff.rego", m.add("blob", "x")}} }, "\uFFFD.rego", "is not a path in UTF-8"},
	"a large file": {func(m memoryObjects) [][3]string {
		return [][3]string{{"100644", "a.rego", m.add("blob", strings.Repeat("x", maxFolderBytes+1))}}
	}, "-", "at most 1000 files with 4 MiB"},
}

func manyItems(mode, name, object string, n int) [][3]string {
	items := make([][3]string, n)
	for i := range items {
		items[i] = [3]string{mode, fmt.Sprintf(name, i), object}
	}
	return items
}

// filesOf lists a tree and reads its files.
func filesOf(t testing.TB, m memoryObjects, root string, b treeBounds) (*policy.Snapshot, error) {
	t.Helper()
	w := newTreeWalk(t.Context(), m, b)
	listed, err := w.list(root)
	if err != nil {
		return nil, err
	}
	if err := w.readAll(listed); err != nil {
		return nil, err
	}
	var files []policy.File
	for _, e := range listed {
		files = append(files, policy.File{Path: e.path, Content: e.content})
	}
	return policy.NewSnapshot(w.faults.files(files), "")
}

// TestHostileFolders: whatever the objects of one repository's folder are, that folder is
// rejected, and everything else is read. Where faults are not counted by folder, the tree
// is rejected.
func TestHostileFolders(t *testing.T) {
	t.Parallel()
	for name, c := range hostileFolders {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := memoryObjects{}
			root := repositoryTree(m, c.items(m)...)
			s, err := filesOf(t, m, root, defaultTreeBounds)
			if err != nil {
				t.Fatal(err)
			}
			wantFault(t, s, "repositories/acme/tools", c.path, c.says)
			if i := slices.IndexFunc(s.Files, func(f policy.File) bool { _, fault := f.Faults(); return fault }); len(s.Files[i].Content) > maxFolderFaults*(2<<10) {
				t.Errorf("the faults have %d bytes", len(s.Files[i].Content))
			}
			switch name {
			case "many rules", "a large file", "many small files", "many folders":
				return // the tree's own bounds accept them
			}
			b := defaultTreeBounds
			b.entries, b.treeBytes = 50_000, 4<<20
			b.folder = func(string) string { return "" }
			if s, err := filesOf(t, m, root, b); err == nil {
				t.Errorf("without shares: %s", paths(s))
			}
		})
	}
}

// FuzzFolderTree: whatever the tree object of one repository's folder is, the revision is
// offered, and what is listed of it is in that folder.
func FuzzFolderTree(f *testing.F) {
	m := memoryObjects{}
	rule := m.add("blob", ruleText)
	hash, _ := hex.DecodeString(rule)
	for _, name := range []string{"100644 a.rego", "40000 sub", "100644 ../website/a.rego", "120000 b.rego", "100644 source-fault.rego", "100644 a.yaml"} {
		f.Add([]byte(name + "\x00" + string(hash)))
		f.Add([]byte(name + "\x00" + string(hash) + name + "\x00" + string(hash)))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		m := memoryObjects{}
		m.add("blob", ruleText)
		workspace := m.tree([3]string{modeTree, "tools", m.add("tree", string(content))}, [3]string{modeTree, "website", m.tree([3]string{"100644", "a.rego", rule})})
		root := m.tree([3]string{modeTree, "egress", m.tree([3]string{"100644", "a.rego", rule})}, [3]string{modeTree, "repositories", m.tree([3]string{modeTree, "acme", workspace})})
		s, err := filesOf(t, m, root, defaultTreeBounds)
		if err != nil {
			t.Fatal(err)
		}
		others := 0
		for _, file := range s.Files {
			if !strings.HasPrefix(file.Path, "repositories/acme/tools/") {
				others++
			}
		}
		if others != 2 {
			t.Errorf("%s", paths(s))
		}
	})
}
