package toolconfig

import (
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// testSettings are the settings of a user and a system below a temporary directory.
func testSettings(t *testing.T, env map[string]string) Settings {
	t.Helper()
	root := t.TempDir()
	home := filepath.Join(root, "home", "ci")
	for _, dir := range []string{home, filepath.Join(root, "etc/apt/apt.conf.d")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return Settings{
		Forwarder:  netip.MustParseAddrPort("127.0.0.1:40123"),
		Containers: netip.MustParseAddrPort("172.17.0.1:40124"),
		Home:       home, PasswdHome: home, Root: root, Privileged: true,
		Getenv: func(name string) string { return env[name] },
	}
}

func write(t *testing.T, path, content string, mode fs.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

// tree is every file below a directory: its mode, owner, time and content.
func tree(t *testing.T, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			all[path] = info.Mode().String()
		case d.Type()&fs.ModeSymlink != 0:
			all[path], err = os.Readlink(path)
		default:
			content, readErr := os.ReadFile(path)
			err = readErr
			all[path] = info.Mode().String() + " " + info.ModTime().UTC().String() + " " + string(content)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func equalTrees(t *testing.T, got, want map[string]string) {
	t.Helper()
	for path, value := range want {
		if got[path] != value {
			t.Errorf("%s: got %q, want %q", path, got[path], value)
		}
	}
	for path := range got {
		if _, ok := want[path]; !ok {
			t.Errorf("%s remains", path)
		}
	}
}

func open(t *testing.T, dir string) *Journal {
	t.Helper()
	j, err := OpenJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func apply(t *testing.T, j *Journal, s Settings) []Problem {
	t.Helper()
	problems, err := j.Apply(Tools, s)
	if err != nil {
		t.Fatal(err)
	}
	return problems
}

// originals gives the tools files in unusual forms.
func originals(t *testing.T, s Settings) {
	t.Helper()
	write(t, filepath.Join(s.Home, ".m2/settings.xml"), "<settings>\r\n\t<servers/>\r\n</settings>", 0o640)
	write(t, filepath.Join(s.Home, ".gradle/gradle.properties"), "org.gradle.daemon=false\\", 0o444)
	write(t, filepath.Join(s.Home, "dotfiles/docker.json"), `{"credsStore":  "pass"}`, 0o600)
	if err := os.MkdirAll(filepath.Join(s.Home, ".docker"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../dotfiles/docker.json", filepath.Join(s.Home, ".docker/config.json")); err != nil {
		t.Fatal(err)
	}
}

// TestRestore: every file, directory, mode, time and link is what it was, with and without
// files before, through another Journal.
func TestRestore(t *testing.T) {
	t.Parallel()
	for _, existing := range []bool{true, false} {
		s, dir := testSettings(t, nil), t.TempDir()
		if existing {
			originals(t, s)
		}
		before := tree(t, s.Root)
		j := open(t, dir)
		if problems := apply(t, j, s); len(problems) > 0 {
			t.Fatal(problems)
		}
		if len(j.Paths()) != 8 {
			t.Errorf("changed %v", j.Paths())
		}
		during := tree(t, s.Root)
		for _, path := range j.Paths() {
			if during[path] == before[path] {
				t.Errorf("%s was not changed", path)
			}
		}
		if problems, err := open(t, dir).Restore(); err != nil || len(problems) > 0 {
			t.Fatal(problems, err)
		}
		equalTrees(t, tree(t, s.Root), before)
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("the journal leaves %v, %v", left, err)
		}
	}
}

// TestCrash: a process that ends after any of its operations on files leaves a state that
// Restore restores. The crash is a copy of the tree and the journal at each step.
func TestCrash(t *testing.T) {
	t.Parallel()
	s, dir := testSettings(t, nil), t.TempDir()
	originals(t, s)
	before := tree(t, s.Root)
	for n := range Tools {
		// The journal has the entry, and the file is not written yet.
		j := open(t, dir)
		if _, err := j.Apply(Tools[:n], s); err != nil {
			t.Fatal(err)
		}
		if files := Tools[n].files; files != nil {
			for _, file := range files(&s) {
				path, err := resolve(file.Path)
				if err != nil {
					t.Fatal(err)
				}
				old, info, err := readFile(path)
				if err != nil {
					t.Fatal(err)
				}
				e := entry{Tool: "x", Path: path, Format: file.format, Existed: info != nil, UID: -1, GID: -1, Written: digest([]byte("never"))}
				if info != nil {
					e.Mode, e.Modified = uint32(info.Mode()), info.ModTime()
				}
				if e.Directories, err = missingDirectories(filepath.Dir(path)); err != nil {
					t.Fatal(err)
				}
				if err := j.add(&e, old); err != nil {
					t.Fatal(err)
				}
				for _, d := range e.Directories {
					if err := os.Mkdir(d, 0o755); err != nil {
						t.Fatal(err)
					}
				}
				write(t, path+"-123.tmp", "half", 0o600)
			}
		}
		if problems, err := open(t, dir).Restore(); err != nil || len(problems) > 0 {
			t.Fatal(problems, err)
		}
		equalTrees(t, tree(t, s.Root), before)
	}
}

// TestBackupIsNeeded: without the entry of the journal, a changed file stays changed.
func TestBackupIsNeeded(t *testing.T) {
	t.Parallel()
	s, dir := testSettings(t, nil), t.TempDir()
	originals(t, s)
	before := tree(t, s.Root)
	apply(t, open(t, dir), s)
	if err := os.Remove(filepath.Join(dir, journalName)); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, dir).Restore(); err != nil {
		t.Fatal(err)
	}
	if settings := filepath.Join(s.Home, ".m2/settings.xml"); tree(t, s.Root)[settings] == before[settings] {
		t.Error("the file was restored without a journal")
	}
}

// TestEditedFiles: what someone edited after start is not overwritten.
func TestEditedFiles(t *testing.T) {
	t.Parallel()
	s, dir := testSettings(t, nil), t.TempDir()
	originals(t, s)
	apply(t, open(t, dir), s)
	gradle, maven := filepath.Join(s.Home, ".gradle/gradle.properties"), filepath.Join(s.Home, ".m2/settings.xml")
	text, err := os.ReadFile(gradle)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(gradle, 0o600); err != nil { // its owner may not write it
		t.Fatal(err)
	}
	write(t, gradle, string(text)+"added=1\n", 0o600)
	write(t, maven, "<settings>mine</settings>", 0o600)
	if err := os.Remove(filepath.Join(s.Home, "dotfiles/docker.json")); err != nil {
		t.Fatal(err)
	}
	problems, err := open(t, dir).Restore()
	if err != nil || len(problems) != 2 {
		t.Fatalf("%v, %v", problems, err)
	}
	if got, err := os.ReadFile(gradle); err != nil || string(got) != "org.gradle.daemon=false\\added=1\n" {
		t.Errorf("gradle: %q, %v", got, err)
	}
	if got, err := os.ReadFile(maven); err != nil || string(got) != "<settings>mine</settings>" {
		t.Errorf("maven: %q, %v", got, err)
	}
	if _, err := os.Stat(filepath.Join(s.Home, "dotfiles/docker.json")); err == nil {
		t.Error("a removed file came back")
	}
	for _, p := range problems {
		_, original, found := strings.Cut(p.String(), "the original is ")
		if text, err := os.ReadFile(original); !found || err != nil || len(text) == 0 {
			t.Errorf("%s: %q, %v", p, text, err)
		}
	}
}

// TestOriginalsAreKept: an original that could not be restored is not replaced by that of a
// later conflict.
func TestOriginalsAreKept(t *testing.T) {
	t.Parallel()
	s, dir := testSettings(t, nil), t.TempDir()
	maven := filepath.Join(s.Home, ".m2/settings.xml")
	for _, original := range []string{"<settings>1</settings>", "<settings>2</settings>"} {
		write(t, maven, original, 0o600)
		apply(t, open(t, dir), s)
		write(t, maven, "<settings>mine</settings>", 0o600)
		if problems, err := open(t, dir).Restore(); err != nil || len(problems) != 1 {
			t.Fatal(problems, err)
		}
	}
	for name, want := range map[string]string{"original-1-settings.xml": "<settings>1</settings>", "original-2-settings.xml": "<settings>2</settings>"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// TestUnsafeFiles: files that are not the user's own are not changed.
func TestUnsafeFiles(t *testing.T) {
	t.Parallel()
	s, dir := testSettings(t, nil), t.TempDir()
	write(t, filepath.Join(s.Home, ".m2/settings.xml"), strings.Repeat(" ", maxFileBytes+1), 0o600)
	if err := os.MkdirAll(filepath.Join(s.Home, ".gradle/gradle.properties"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(s.Home, ".docker/config.json"), "{", 0o600)
	write(t, filepath.Join(s.Root, "etc/apt/apt.conf.d/99sallyport-step"), "# mine\n", 0o644)
	want := map[string]string{"maven": "more than", "gradle": "ordinary file", "docker": "JSON", "apt": "exists"}
	if os.Geteuid() == 0 {
		want["chromium"] = "belongs to user 65534"
		if err := os.MkdirAll(filepath.Join(s.Root, "etc/opt"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(s.Root, "etc/opt"), 0o777); err != nil {
			t.Fatal(err)
		}
		foreign := filepath.Join(s.Root, "etc/chromium")
		if err := os.Mkdir(foreign, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(foreign, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	before := tree(t, s.Root)
	problems := apply(t, open(t, dir), s)
	if os.Geteuid() == 0 {
		equalTrees(t, tree(t, s.Root), before)
		if len(problems) != 8 {
			t.Errorf("problems: %v", problems)
		}
	}
	for tool, want := range want {
		if !slices.ContainsFunc(problems, func(p Problem) bool { return p.Tool == tool && strings.Contains(p.String(), want) }) {
			t.Errorf("%s: no problem with %q in %v", tool, want, problems)
		}
	}
}

// TestForeignLink: a link in a directory of another user does not lead to our files.
func TestForeignLink(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to give a directory to another user")
	}
	t.Parallel()
	s, dir := testSettings(t, nil), t.TempDir()
	m2 := filepath.Join(s.Home, ".m2")
	if err := os.Mkdir(m2, 0o755); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(s.Root, "secret.xml")
	write(t, secret, "<settings></settings>", 0o600)
	if err := os.Symlink(secret, filepath.Join(m2, "settings.xml")); err != nil {
		t.Fatal(err)
	}
	if err := os.Lchown(m2, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	problems := apply(t, open(t, dir), s)
	if got, err := os.ReadFile(secret); err != nil || string(got) != "<settings></settings>" {
		t.Errorf("the file behind the link became %q, %v: %v", got, err, problems)
	}
}
