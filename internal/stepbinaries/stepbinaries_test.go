package stepbinaries

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/sallyport/sallyport/internal/durable"
)

func put(t testing.TB, dir, name, content string) {
	t.Helper()
	if err := durable.WriteFile(filepath.Join(dir, name), []byte(content)); err != nil {
		t.Fatal(err)
	}
}

func sumOf(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:])
}

// TestReplacement: while the files are replaced, each build that is offered has the digest
// that is offered with it, and is one of the two.
func TestReplacement(t *testing.T) {
	dir := t.TempDir()
	d := New(dir)
	if _, err := d.Build("linux-amd64"); err == nil {
		t.Error("a missing build is offered")
	}
	if n := len(d.Check()); n != 2 {
		t.Errorf("%d problems of an empty directory", n)
	}
	put(t, dir, "linux-amd64", "first")
	if _, err := d.Build("linux-amd64"); err == nil {
		t.Error("a build without its digest is offered")
	}
	put(t, dir, "linux-amd64.sha256", sumOf("first")+"  linux-amd64\n")
	if b, err := d.Build("linux-amd64"); err != nil || string(b.Content) != "first" || b.SHA256 != sumOf("first") {
		t.Fatalf("got %v, %v", b, err)
	}
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				b, err := d.Build("linux-amd64")
				if err != nil || sumOf(string(b.Content)) != b.SHA256 || string(b.Content) != "first" && string(b.Content) != "a second build" {
					t.Errorf("got %v, %v", b, err)
					return
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for range 50 {
		put(t, dir, "linux-amd64", "a second build")
		put(t, dir, "linux-amd64.sha256", sumOf("a second build"))
		put(t, dir, "linux-amd64", "first")
		put(t, dir, "linux-amd64.sha256", sumOf("first"))
	}
	close(done)
	readers.Wait()
	put(t, dir, "linux-amd64", "a damaged build")
	if b, err := d.Build("linux-amd64"); err != nil || string(b.Content) != "first" {
		t.Errorf("of a damaged build: %v, %v", b, err)
	}
	if b, err := New(dir).Build("linux-amd64"); err == nil {
		t.Errorf("a damaged build is offered: %v", b)
	}
}

// TestNames: nothing but the builds is read, whatever a client sends.
func TestNames(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "step")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	put(t, parent, "secret", "secret")
	put(t, dir, "linux-amd64.sha256", sumOf("secret"))
	if err := os.Symlink("../secret", filepath.Join(dir, "linux-amd64")); err != nil {
		t.Fatal(err)
	}
	d := New(dir)
	if b, err := d.Build("linux-amd64"); err == nil {
		t.Errorf("a link out of the directory is followed: %s", b.Content)
	}
	for _, name := range []string{"", ".", "..", "../secret", "linux-amd64.sha256", "/etc/passwd", "linux-amd64/../../secret", "LINUX-AMD64", "linux-amd64\x00"} {
		if _, err := d.Build(name); !errors.Is(err, ErrUnknown) {
			t.Errorf("%q: %v", name, err)
		}
	}
}
