package main

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// maxProgramBytes bounds the program that a step downloads.
const maxProgramBytes = 8 << 20

// TestReproducible: make step builds the same bytes in another directory. The program
// has neither a path of the machine nor more than 8 MiB.
func TestReproducible(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program")
	}
	t.Parallel()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	other := t.TempDir()
	for _, name := range []string{"go.mod", "go.sum", "Makefile", "cmd/sallyport-step", "step", "internal", "identity"} {
		if err := copyTree(filepath.Join(root, name), filepath.Join(other, name)); err != nil {
			t.Fatal(err)
		}
	}
	built := make([]map[string][]byte, 2)
	for i, dir := range []string{root, other} {
		built[i] = buildStep(t, dir)
	}
	for name, content := range built[0] {
		if !bytes.Equal(content, built[1][name]) {
			t.Errorf("%s differs between two directories", name)
		}
		for _, path := range []string{root, other} {
			if bytes.Contains(content, []byte(path)) {
				t.Errorf("%s contains %s", name, path)
			}
		}
		if len(content) > maxProgramBytes {
			t.Errorf("%s has %d bytes, more than %d", name, len(content), maxProgramBytes)
		}
	}
}

// buildStep runs make step, and returns the built files.
func buildStep(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	out := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "make", "-C", dir, "step", "STEPARCHS=amd64", "BIN="+out, "VERSION=v0.0.0-test", "COMMIT=0000000000000000000000000000000000000000")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	files := map[string][]byte{}
	for _, name := range []string{"linux-amd64", "linux-amd64.sha256"} {
		content, err := os.ReadFile(filepath.Join(out, "step", name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = content
	}
	check := exec.CommandContext(t.Context(), "sha256sum", "-c", "linux-amd64.sha256")
	check.Dir = filepath.Join(out, "step")
	if text, err := check.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return files
}

// copyTree copies the sources that a build reads.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, name)
		if d.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		if filepath.Ext(path) != ".go" && path != from {
			return nil
		}
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, content, 0o644)
	})
}
