package session

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// otherUser is a user that the tests, as root, run processes as.
const otherUser = 65534

// asOther runs a script in a directory as another user.
func asOther(dir, script string) error {
	cmd := exec.Command("/bin/sh", "-ec", script)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: otherUser, Gid: otherUser}}
	return cmd.Run()
}

// sharedDir returns a directory that every user reaches.
func sharedDir(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to act as another user")
	}
	dir, err := os.MkdirTemp("/tmp", "s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestAncestorsAreNeeded: without the check of the directories that contain a session,
// another user replaces the session behind the check of the session itself, and the lock
// and the list of changed files are that user's. Root would restore files from this list.
func TestAncestorsAreNeeded(t *testing.T) {
	t.Parallel()
	for _, checked := range []bool{true, false} {
		parent := filepath.Join(sharedDir(t), "tmp")
		path := filepath.Join(parent, "session")
		if err := errors.Join(os.Mkdir(parent, 0o700), os.Chmod(parent, 0o777), os.Mkdir(path, 0o700)); err != nil {
			t.Fatal(err)
		}
		check := checkAncestors
		if !checked {
			check = func(string) error { return nil }
		}
		d, err := open(path, check)
		if checked {
			if err == nil || !strings.Contains(err.Error(), "other users can write in "+parent) {
				t.Errorf("got %v", err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := asOther(parent, "mv session away && mkdir session && echo '[]' > session/files.json"); err != nil {
			t.Fatalf("the attack: %v", err)
		}
		unlock, err := d.Lock()
		if err != nil {
			t.Fatal(err)
		}
		unlock()
		if _, err := os.Stat(filepath.Join(d.Path(), "files.json")); err != nil {
			t.Errorf("the session is not the other user's: %v", err)
		}
	}
}

// TestStickyAncestor: another user cannot replace a session in a directory such as /tmp.
func TestStickyAncestor(t *testing.T) {
	t.Parallel()
	parent := filepath.Join(sharedDir(t), "tmp")
	if err := errors.Join(os.Mkdir(parent, 0o700), os.Chmod(parent, 0o777|os.ModeSticky)); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(filepath.Join(parent, "session")); err != nil {
		t.Fatal(err)
	}
	if err := asOther(parent, "mv session away"); err == nil {
		t.Error("another user moved the session")
	}
}

// TestAncestors: the directories on the way to a session, and the links.
func TestAncestors(t *testing.T) {
	t.Parallel()
	root := sharedDir(t)
	path := func(name string) string { return filepath.Join(root, name) }
	for _, err := range []error{
		os.MkdirAll(path("own/deep"), 0o755), os.Mkdir(path("group"), 0o700), os.Chmod(path("group"), 0o775), os.Mkdir(path("group/own"), 0o700),
		os.Mkdir(path("foreign"), 0o755), os.Mkdir(path("foreign/own"), 0o700), os.Chown(path("foreign"), otherUser, otherUser),
		os.Symlink("own/deep/../deep", path("relative")), os.Symlink(path("own"), path("absolute")), os.Symlink("absolute/deep", path("chain")),
		os.Symlink("group/own", path("into-group")), os.Symlink(path("foreign/own"), path("into-foreign")),
		os.Symlink(path("own"), path("theirs")), os.Lchown(path("theirs"), otherUser, otherUser),
		os.Symlink("loop", path("loop")), os.WriteFile(path("file"), nil, 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"own": "", "own/deep": "", "relative": "", "absolute": "", "chain": "",
		"group": "other users can write in " + path("group"), "group/own": "other users can write in " + path("group"),
		"into-group": "other users can write in " + path("group"), "foreign": path("foreign") + " belongs to another user",
		"foreign/own": path("foreign") + " belongs to another user", "into-foreign": path("foreign") + " belongs to another user",
		"theirs": path("theirs") + " belongs to another user", "loop": "symbolic links", "file": "not a directory", "missing": "no such file",
	} {
		err := checkAncestors(root + "/" + name + "/session")
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, want %q", name, err, want)
		}
	}
}
