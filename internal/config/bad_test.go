package config

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write the expected messages and the reference page anew")

// TestBad compares whole reports: each archive in testdata/bad holds a configuration, the files that it names, and in
// "want" every line that a user sees.
func TestBad(t *testing.T) {
	t.Setenv("SALLYPORT_TEST_DATABASE_URL", "postgres://swordfish@db.example/x")
	archives, err := filepath.Glob("testdata/bad/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatalf("no archives: %v", err)
	}
	for _, archive := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(archive), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(archive)
			if err != nil {
				t.Fatal(err)
			}
			directory, want := unpack(t, a)
			_, err = Load(filepath.Join(directory, "sallyport.yaml"))
			if err == nil {
				t.Fatal("the configuration was accepted")
			}
			got := strings.ReplaceAll(err.Error(), directory, "DIR") + "\n"
			if strings.Contains(got, "swordfish") {
				t.Errorf("the report shows a secret:\n%s", got)
			}
			if *update {
				a.Files = append(a.Files[:len(a.Files):len(a.Files)], txtar.File{Name: "want", Data: []byte(got)})
				a.Files = dropOldWant(a.Files)
				if err := os.WriteFile(archive, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("report (-want +got):\n%s", diff)
			}
		})
	}
}

// unpack writes an archive's files into a new directory and returns it, and the expected report.
func unpack(t *testing.T, a *txtar.Archive) (directory, want string) {
	t.Helper()
	directory = t.TempDir()
	for _, f := range a.Files {
		if f.Name == "want" {
			want = string(f.Data)
			continue
		}
		name := filepath.Join(directory, filepath.FromSlash(f.Name))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, f.Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return directory, want
}

func dropOldWant(files []txtar.File) []txtar.File {
	var kept []txtar.File
	for i, f := range files {
		if f.Name != "want" || i == len(files)-1 {
			kept = append(kept, f)
		}
	}
	return kept
}
