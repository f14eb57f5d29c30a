package main

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/spf13/cobra/doc"
)

var manDirectory = flag.String("man", "", "write the man pages to this directory")

// TestManPages: every command has a man page. `make release` keeps them.
func TestManPages(t *testing.T) {
	directory := *manDirectory
	if directory == "" {
		directory = t.TempDir()
	}
	if err := os.MkdirAll(directory, 0o755); err != nil {
		t.Fatal(err)
	}
	root := newRoot()
	root.DisableAutoGenTag = true // reproducible
	if err := doc.GenManTree(root, &doc.GenManHeader{Title: "SALLYPORT", Section: "1", Source: "Sallyport", Manual: "Sallyport"}, directory); err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob(filepath.Join(directory, "sallyport*.1"))
	if want := len(leaves(newRoot(), nil)); err != nil || len(pages) < want {
		t.Errorf("%d pages of at least %d, %v", len(pages), want, err)
	}
}
