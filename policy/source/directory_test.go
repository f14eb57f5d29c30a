package source_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sallyport/sallyport/policy/source"
)

// write makes files below a fresh folder and returns it.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestDirectory(t *testing.T) {
	dir := write(t, map[string]string{
		"README.md":                           "# rules",
		"bitbucket-pipelines.yml":             "pipelines: {}",
		".git/hooks/odd.rego":                 "not ours",
		".git/config":                         "x",
		"vendor/sallyport/lib.rego":           "package sallyport.lib",
		"egress/a.rego":                       "package sallyport.egress",
		"egress/a_test.rego":                  "package sallyport.egress_test",
		"repositories/acme/payments/own.rego": "package x",
		"misplaced.rego":                      "package y",
		"data/hosts/list.yaml":                "hosts: []",
		"data/notes.md":                       "x",
		"data/x.json":                         "{}",
	})
	if err := os.Symlink("a.rego", filepath.Join(dir, "egress", "linked.rego")); err != nil {
		t.Fatal(err)
	}
	s, err := source.Directory(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range s.Files {
		got = append(got, f.Path)
	}
	want := "data/hosts/list.yaml data/x.json egress/a.rego egress/a_test.rego egress/linked.rego misplaced.rego repositories/acme/payments/own.rego"
	if strings.Join(got, " ") != want {
		t.Errorf("files\n%s\nwant\n%s", strings.Join(got, " "), want)
	}
	again, err := source.Directory(t.Context(), dir)
	if err != nil || again.Digest != s.Digest || s.Commit != "" {
		t.Errorf("second reading: %v, digests %s and %s, commit %q", err, s.Digest, again.Digest, s.Commit)
	}
}

func TestDirectoryRefuses(t *testing.T) {
	outside := write(t, map[string]string{"secret.rego": "package sallyport.egress", "more/x.rego": "x"})
	for name, tc := range map[string]struct {
		prepare func(t *testing.T, dir string) error
		want    string
	}{
		"a link out of the tree": {func(_ *testing.T, dir string) error {
			return os.Symlink(filepath.Join(outside, "secret.rego"), filepath.Join(dir, "egress", "b.rego"))
		}, "egress/b.rego is a symbolic link that leads out"},
		"a relative link out of the tree": {func(t *testing.T, dir string) error {
			up, err := filepath.Rel(filepath.Join(dir, "egress"), filepath.Join(outside, "secret.rego"))
			if err != nil {
				return err
			}
			return os.Symlink(up, filepath.Join(dir, "egress", "b.rego"))
		}, "egress/b.rego is a symbolic link that leads out"},
		"a dangling link": {func(_ *testing.T, dir string) error {
			return os.Symlink("nowhere.rego", filepath.Join(dir, "egress", "b.rego"))
		}, "egress/b.rego is a symbolic link"},
		"a link to a folder of the tree": {func(_ *testing.T, dir string) error {
			return os.Symlink(".", filepath.Join(dir, "egress", "again"))
		}, "egress/again is a symbolic link to a folder"},
		"a pipe": {func(_ *testing.T, dir string) error {
			return syscall.Mkfifo(filepath.Join(dir, "egress", "b.rego"), 0o600)
		}, "egress/b.rego: it is not a regular file"},
		"too much": {func(_ *testing.T, dir string) error {
			path := filepath.Join(dir, "data", "big.yaml")
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				return err
			}
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				return err
			}
			return os.Truncate(path, source.MaxBytes+1)
		}, "data/big.yaml: with it the policy and data files are over 128 MiB"},
		"too deep": {func(_ *testing.T, dir string) error {
			return os.MkdirAll(filepath.Join(dir, strings.Repeat("a/", 40)), 0o755)
		}, "lies too deep"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := write(t, map[string]string{"egress/a.rego": "package sallyport.egress"})
			if err := tc.prepare(t, dir); err != nil {
				t.Fatal(err)
			}
			_, err := source.Directory(t.Context(), dir)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}

func TestDirectoryWithoutPolicy(t *testing.T) {
	if _, err := source.Directory(t.Context(), filepath.Join(t.TempDir(), "missing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing folder: %v", err)
	}
	dir := write(t, map[string]string{"README.md": "x"})
	if _, err := source.Directory(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "there is no policy in it") {
		t.Errorf("an empty folder: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := source.Directory(ctx, dir); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}
