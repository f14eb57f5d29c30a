package source

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestFolder: an unchanged tree is not read again, and every change in it is seen.
func TestFolder(t *testing.T) {
	root := t.TempDir()
	write := func(path, content string) {
		t.Helper()
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("egress/a.rego", "package a\n")
	write("data/x.yaml", "a: 1\n")
	write("README.md", "x")
	f := NewFolder(root)
	read := func() string {
		t.Helper()
		s, err := f.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		fresh, err := Directory(t.Context(), root)
		if err != nil || fresh.Digest != s.Digest {
			t.Fatalf("it says %s, and is %v (%v)", s.Digest, fresh, err)
		}
		return s.Digest
	}
	old := func() { // as if it had been read long after the last change
		f.stamp.settled = true
	}
	read()
	if f.stamp.settled {
		t.Fatal("what was written just now counts as settled")
	}
	old()
	before := f.read
	if read(); f.read != before {
		t.Error("what is the same is read again")
	}
	at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	for name, change := range map[string]func(){
		"content": func() { write("egress/a.rego", "package b\n") },
		"the same length and time": func() {
			write("egress/a.rego", "package c\n")
			if err := os.Chtimes(filepath.Join(root, "egress/a.rego"), at, at); err != nil {
				t.Fatal(err)
			}
		},
		"a new file": func() { write("egress/b.rego", "package b\n") },
		"a file less": func() {
			if err := os.Remove(filepath.Join(root, "data/x.yaml")); err != nil {
				t.Fatal(err)
			}
		},
		"another name": func() {
			if err := os.Rename(filepath.Join(root, "egress/a.rego"), filepath.Join(root, "egress/c.rego")); err != nil {
				t.Fatal(err)
			}
			write("egress/a.rego", "package c\n")
		},
	} {
		digest := read()
		old()
		if change(); read() == digest {
			t.Errorf("%s is not seen", name)
		}
	}
	// A link is read every time: what it leads to changes without it.
	write("target.txt", "package l\n")
	if err := os.Symlink("../target.txt", filepath.Join(root, "egress/l.rego")); err != nil {
		t.Fatal(err)
	}
	read()
	if s, err := takeStamp(t.Context(), root); err != nil || s.settled {
		t.Errorf("a tree with a link counts as settled: %v", err)
	}
	// What nothing shows from outside is seen later.
	if err := os.Remove(filepath.Join(root, "egress/l.rego")); err != nil {
		t.Fatal(err)
	}
	read()
	old()
	kept := f.read
	f.at = f.at.Add(-readAgain)
	if read(); f.read == kept {
		t.Error("what was read is believed for ever")
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := f.Read(ended); err == nil {
		t.Error("it reads on after its context has ended")
	}
	if err := os.RemoveAll(root); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Read(t.Context()); err == nil {
		t.Error("a tree that is gone is read")
	}
}

// TestFolderLink: a path that is a link is checked where it leads. Many
// deployments put a release beside the one before and set a link again.
func TestFolderLink(t *testing.T) {
	root := t.TempDir()
	for _, release := range []string{"one", "two"} {
		if err := os.MkdirAll(filepath.Join(root, release, "egress"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, release, "egress/a.rego"), []byte("package "+release+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(root, "current")
	f := NewFolder(link)
	lead := func(to string) string {
		t.Helper()
		if err := os.RemoveAll(link); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
		s, err := f.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s.Digest
	}
	one := lead("one")
	f.stamp.settled = true // as if it had been read long after the last change
	two := lead("two")
	if two == one {
		t.Error("a link that is set anew is not seen")
	}
	f.stamp.settled = true
	if err := os.WriteFile(filepath.Join(root, "two/egress/a.rego"), []byte("package six\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if s, err := f.Read(t.Context()); err != nil || s.Digest == two {
		t.Errorf("a change behind a link is not seen: %v", err)
	}
}
