package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestWriteFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	for _, want := range []string{"first", "", "the third"} {
		if err := WriteFile(path, []byte(want[:len(want)/2]), []byte(want[len(want)/2:])); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%q, %v", got, err)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	if err := Replace(path, at, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if info, err = os.Stat(path); err != nil || !info.ModTime().Equal(at) {
		t.Errorf("%v, %v", info.ModTime(), err)
	}
}

// TestFailedWriteKeepsTheFile: an error leaves the old content, and no other file.
func TestFailedWriteKeepsTheFile(t *testing.T) {
	directory := t.TempDir()
	path := filepath.Join(directory, "taken")
	if err := os.MkdirAll(filepath.Join(path, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(path, []byte("x")); err == nil {
		t.Error("a directory was replaced by a file")
	}
	entries, err := os.ReadDir(directory)
	if err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
	if err := WriteFile(filepath.Join(directory, "missing", "file"), []byte("x")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if err := SyncDirectory(filepath.Join(directory, "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// TestReplaceAs: the new content has the attributes as soon as it has the name.
func TestReplaceAs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "settings.xml")
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	as := Attributes{Mode: 0o640, UID: os.Getuid(), GID: os.Getgid(), Modified: at}
	if err := ReplaceAs(path, as, []byte("a"), []byte("b")); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o640 || !info.ModTime().Equal(at) {
		t.Errorf("%v, %v", info, err)
	}
	if content, err := os.ReadFile(path); err != nil || string(content) != "ab" {
		t.Errorf("%q, %v", content, err)
	}
}
