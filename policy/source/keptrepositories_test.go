package source

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/policy"
)

// keptRules are two repositories that share documents, and one of another revision.
func keptRules() []policy.KeptRepository {
	file := func(path, text string) policy.File { return policy.File{Path: path, Content: []byte(text)} }
	shared := []policy.File{file("data/x.yaml", "a: 1\n"), file("vendor/sallyport/lib.rego", "package sallyport.lib\n")}
	older := []policy.File{file("data/x.yaml", "a: 2\n")}
	one, two := policy.Revision{Digest: "sha256:feed", Commit: "c0ffee"}, policy.Revision{Digest: "sha256:beef"}
	return []policy.KeptRepository{
		{Repository: "acme/a", Revision: one, Files: []policy.File{file("repositories/acme/a/a.rego", "package a\n")}, Shared: shared},
		{Repository: "acme/b", Revision: one, Files: []policy.File{file("repositories/acme/b/a.rego", "package b\n")}, Shared: shared},
		{Repository: "acme/c", Revision: two, Files: []policy.File{file("repositories/acme/c/a.rego", "package c\n")}, Shared: older},
	}
}

// TestKeptRepositories: what repositories keep is read back, shared files once, and is
// gone with the last of them.
func TestKeptRepositories(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "policy")
	k := NewKept(directory)
	p := kept(t, "package a\n")
	p.Repositories = keptRules()
	if err := k.Save(p); err != nil {
		t.Fatal(err)
	}
	got, err := k.Load()
	if err != nil || got.RepositoriesError != nil {
		t.Fatal(err, got.RepositoriesError)
	}
	if !reflect.DeepEqual(got.Repositories, p.Repositories) {
		t.Errorf("got %+v", got.Repositories)
	}
	path := filepath.Join(directory, "last-good-repositories")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(text, []byte("package sallyport.lib")); n != 1 {
		t.Errorf("what two repositories share is there %d times", n)
	}
	p.Repositories = nil
	if err := k.Save(p); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("nothing is kept, and the file is there")
	}
}

// TestKeptRepositoriesAreChecked: nothing is read of a damaged file, and the policy
// itself is not lost with it.
func TestKeptRepositoriesAreChecked(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "policy")
	k := NewKept(directory)
	p := kept(t, "package a\n")
	p.Repositories = keptRules()
	if err := k.Save(p); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(directory, "last-good-repositories")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{
		"a changed rule":     bytes.Replace(good, []byte("package b\n"), []byte("package x\n"), 1),
		"a changed document": bytes.Replace(good, []byte("a: 1\n"), []byte("a: 9\n"), 1),
		"cut off":            good[:len(good)-1],
		"longer":             append(bytes.Clone(good), 'x'),
		"no line":            []byte("{"),
		"another format":     bytes.Replace(good, []byte(`"format":1`), []byte(`"format":9`), 1),
		"a part elsewhere":   bytes.Replace(good, []byte(`"shared":1}`), []byte(`"shared":7}`), 1),
		"empty":              {},
	} {
		if bytes.Equal(bad, good) {
			t.Fatalf("%s: nothing is changed", name)
		}
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := k.Load()
		if err != nil || got.Snapshot.Digest != p.Snapshot.Digest {
			t.Errorf("%s: the policy is lost with it: %v", name, err)
			continue
		}
		if got.RepositoriesError == nil || len(got.Repositories) != 0 || !strings.Contains(got.RepositoriesError.Error(), path) {
			t.Errorf("%s: %v, %+v", name, got.RepositoriesError, got.Repositories)
		}
	}
}

// TestKeptRepositoriesAreBounded: what does not fit is left out and reported.
func TestKeptRepositoriesAreBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "last-good-repositories")
	list := keptRules()
	list[1].Files = []policy.File{{Path: "repositories/acme/b/a.rego", Content: make([]byte, maxKeptRepositories)}}
	err := saveRepositories(path, list)
	if err == nil || !strings.Contains(err.Error(), "denied after a restart") {
		t.Errorf("%v", err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := parseRepositories(text); err != nil || len(got) != 2 || got[0].Repository != "acme/a" || got[1].Repository != "acme/c" {
		t.Errorf("%+v, %v", got, err)
	}
}

// FuzzParseRepositories: what is accepted has paths of a policy tree, and can be
// written again to the same effect.
func FuzzParseRepositories(f *testing.F) {
	path := filepath.Join(f.TempDir(), "x")
	if err := saveRepositories(path, keptRules()); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(bytes.Replace(good, []byte(`"size":`), []byte(`"size":-`), 1))
	f.Add([]byte(`{"format":1,"shared":[],"repositories":[]}` + "\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := parseRepositories(text)
		if err != nil || len(list) == 0 {
			return
		}
		path := filepath.Join(t.TempDir(), "x")
		if err := saveRepositories(path, list); err != nil {
			t.Fatalf("what was read is not written: %v", err)
		}
		again, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if same, err := parseRepositories(again); err != nil || len(same) != len(list) {
			t.Fatalf("%d repositories, and then %d: %v", len(list), len(same), err)
		}
	})
}
