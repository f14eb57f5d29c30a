package source

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/policy"
)

func kept(t testing.TB, text string) KeptPolicy {
	t.Helper()
	s, err := policy.NewSnapshot([]policy.File{{Path: "egress/a.rego", Content: []byte(text)}}, "c0ffee")
	if err != nil {
		t.Fatal(err)
	}
	return KeptPolicy{Snapshot: s, Origin: "directory /policy", Confirmed: time.Date(2026, 11, 21, 8, 40, 0, 0, time.UTC)}
}

func TestKept(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "policy")
	k := NewKept(directory)
	if _, err := k.Load(); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("nothing is kept: %v", err)
	}
	for _, text := range []string{"package a\n", "package b\n"} {
		if err := k.Save(kept(t, text)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := k.Load()
	if err != nil {
		t.Fatal(err)
	}
	want := kept(t, "package b\n")
	if got.Snapshot.Revision() != want.Snapshot.Revision() || got.Origin != want.Origin || !got.Confirmed.Equal(want.Confirmed) {
		t.Errorf("got %+v", got)
	}
	later := want.Confirmed.Add(time.Hour)
	if err := k.Confirm(later); err != nil {
		t.Fatal(err)
	}
	if got, err = k.Load(); err != nil || !got.Confirmed.Equal(later) {
		t.Errorf("%+v, %v", got, err)
	}
	entries, err := os.ReadDir(directory)
	if err != nil || len(entries) != 1 {
		t.Errorf("left over: %v, %v", entries, err)
	}
	if info, err := os.Stat(filepath.Join(directory, "last-good")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// TestKeptIsChecked: whatever a disk does to the file, nothing else than what was
// kept is read from it.
func TestKeptIsChecked(t *testing.T) {
	directory := t.TempDir()
	k := NewKept(directory)
	if err := k.Save(kept(t, "package a\n")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(directory, "last-good")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		for name, text := range map[string]string{
			"cut": string(whole[:i]), "changed": string(whole[:i]) + "\x01" + string(whole[i+1:]),
		} {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := k.Load()
			if err == nil && got.Snapshot.Digest != kept(t, "package a\n").Snapshot.Digest {
				t.Fatalf("%s at %d: %+v", name, i, got.Snapshot)
			}
			// The words about it are not covered by the digest; the content is.
			if err == nil && i > strings.IndexByte(string(whole), '\n') {
				t.Fatalf("%s at %d passes", name, i)
			}
		}
	}
}

func FuzzKept(f *testing.F) {
	f.Add([]byte("{\"format\":1,\"digest\":\"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\",\"origin\":\"x\"}\n"))
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := parseKept(text)
		if err != nil {
			return
		}
		_, content, _ := strings.Cut(string(text), "\n")
		if got := string(p.Snapshot.Content()); got != content {
			t.Errorf("%q was read as %q", content, got)
		}
	})
}
