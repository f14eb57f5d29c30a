package source

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/sallyport/sallyport/policy"
)

// TestFolderFaults: what is wrong in the folder of one repository is a fault of that
// folder, and everything else is read. In the organization's folder it rejects the tree.
func TestFolderFaults(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		prepare func(folder string) error
		path    string // of the fault, in the folder; "-": the folder
		says    string
	}{
		"a link out of the tree":   {func(folder string) error { return os.Symlink("/etc/passwd", filepath.Join(folder, "b.rego")) }, "b.rego", "it is a symbolic link that leads out"},
		"a dangling link":          {func(folder string) error { return os.Symlink("nowhere.rego", filepath.Join(folder, "b.rego")) }, "b.rego", "it is a symbolic link"},
		"a link to a folder":       {func(folder string) error { return os.Symlink(".", filepath.Join(folder, "again")) }, "again", "it is a symbolic link to a folder"},
		"a pipe":                   {func(folder string) error { return syscall.Mkfifo(filepath.Join(folder, "b.rego"), 0o600) }, "b.rego", "it is not a regular file"},
		"a name that is not UTF-8": {func(folder string) error { return os.WriteFile(filepath.Join(folder, "\xff.rego"), nil, 0o600) }, "\uFFFD.rego", "not a path in UTF-8"},
		"too deep":                 {func(folder string) error { return os.MkdirAll(filepath.Join(folder, strings.Repeat("a/", 40)), 0o755) }, "a/a", "lies too deep"},
		"too much": {func(folder string) error {
			if err := os.WriteFile(filepath.Join(folder, "big.rego"), nil, 0o600); err != nil {
				return err
			}
			return os.Truncate(filepath.Join(folder, "big.rego"), 200<<20)
		}, "-", "at most 1000 files with 4 MiB"},
		"too many": {func(folder string) error {
			for i := range maxFolderFiles + 1 {
				if err := os.WriteFile(filepath.Join(folder, fmt.Sprint(i, ".rego")), nil, 0o600); err != nil {
					return err
				}
			}
			return nil
		}, "-", "at most 1000 files"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, folder := range []string{"repositories/acme/tools", "egress"} {
				dir := t.TempDir()
				for _, path := range []string{"egress/a.rego", "repositories/acme/website/a.rego", folder + "/a.rego"} {
					path = filepath.Join(dir, path)
					if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("package x"), 0o600)); err != nil {
						t.Fatal(err)
					}
				}
				if err := c.prepare(filepath.Join(dir, folder)); err != nil {
					t.Fatal(err)
				}
				s, err := Directory(t.Context(), dir)
				if folder == "egress" {
					if name != "too many" && err == nil {
						t.Error("the organization's folder was read")
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				wantFault(t, s, folder, c.path, c.says)
			}
		})
	}
}

// wantFault compares the one folder with faults, and wants the other files to be there.
func wantFault(t *testing.T, s *policy.Snapshot, folder, path, says string) {
	t.Helper()
	at := folder + "/" + path
	if path == "-" {
		at = folder
	}
	found := 0
	paths := map[string]bool{}
	for _, f := range s.Files {
		paths[f.Path] = true
		faults, ok := f.Faults()
		if !ok {
			continue
		}
		found++
		if !strings.HasPrefix(f.Path, folder+"/") || !strings.HasPrefix(faults[0].Path, at) || !strings.Contains(faults[0].Message, says) {
			t.Errorf("%s: %+v, want %s: %s", f.Path, faults, at, says)
		}
	}
	if found != 1 || !paths["egress/a.rego"] || !paths["repositories/acme/website/a.rego"] {
		t.Errorf("%d folders with faults, files %v", found, paths)
	}
}

// TestFoldersWithManyEntries: a repository's folder in a directory is read up to its
// bound, in whatever folders its entries are. Without that the tree is rejected.
func TestFoldersWithManyEntries(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]func(i int) string{
		"in one folder":   func(i int) string { return fmt.Sprint(i) },
		"in many folders": func(i int) string { return fmt.Sprint(i/10, "/", i) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files := fstest.MapFS{}
			for _, path := range []string{"egress/a.rego", "repositories/acme/tools/a.rego", "repositories/acme/website/a.rego"} {
				files[path] = &fstest.MapFile{Data: []byte("package x")}
			}
			for i := range maxFolderEntries {
				files["repositories/acme/tools/more/"+c(i)+".md"] = &fstest.MapFile{}
			}
			s, err := snapshotOf(t.Context(), files, defaultTreeBounds)
			if err != nil {
				t.Fatal(err)
			}
			wantFault(t, s, "repositories/acme/tools", "-", "the folder holds more than 10000 files and folders")
			b := defaultTreeBounds
			b.entries, b.folder = maxFolderEntries, func(string) string { return "" }
			if _, err := snapshotOf(t.Context(), files, b); err == nil || !strings.Contains(err.Error(), "it holds more than") {
				t.Errorf("without a bound by folder: %v", err)
			}
		})
	}
}

// TestLargestFoldersAreLeftOut: folders within their own bounds that together are over
// those of a tree do not keep small ones out, wherever they stand in the order.
func TestLargestFoldersAreLeftOut(t *testing.T) {
	t.Parallel()
	listed := []treeEntry{{path: "egress/a.rego", size: 1 << 20}, {path: "repositories/acme/website/a.rego", size: 1000}}
	for i := range 40 {
		listed = append(listed, treeEntry{path: fmt.Sprintf("repositories/acme/big%02d/a.rego", i), size: maxFolderBytes})
	}
	f := faults{}
	kept, err := bound(listed, f)
	if err != nil {
		t.Fatal(err)
	}
	total := int64(0)
	for _, e := range kept {
		total += e.size
	}
	if total > MaxBytes || total < MaxBytes-2*maxFolderBytes || kept[0].path != "egress/a.rego" || kept[1].path != "repositories/acme/website/a.rego" || len(f) != 42-len(kept) {
		t.Errorf("%d files with %d bytes, %d faults", len(kept), total, len(f))
	}
	if _, err := bound([]treeEntry{{path: "data/x.yaml", size: MaxBytes + 1}}, faults{}); err == nil {
		t.Error("the organization's files have no bound")
	}
}
