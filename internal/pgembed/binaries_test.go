package pgembed

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestFind(t *testing.T) {
	found, err := Find(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if found.Major < oldestMajor || !strings.HasPrefix(found.Version, itoa(found.Major)) {
		t.Errorf("found %+v", found)
	}
	again, err := Find(t.Context(), found.Directory)
	if err != nil || again != found {
		t.Errorf("named explicitly: %+v, %v; want %+v", again, err, found)
	}
	t.Setenv(BinariesVariable, found.Directory)
	if again, err := Find(t.Context(), ""); err != nil || again != found {
		t.Errorf("named in the environment: %+v, %v; want %+v", again, err, found)
	}
	// What is named is not passed over in silence.
	t.Setenv(BinariesVariable, t.TempDir())
	if _, err := Find(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "$"+BinariesVariable) {
		t.Errorf("a wrong %s: %v", BinariesVariable, err)
	}
}

// A link in PATH is followed to the installation, and programs that are no
// whole installation do not count.
func TestCandidatesFollowLinks(t *testing.T) {
	whole, linked := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(whole, "postgres"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(whole, "postgres"), filepath.Join(linked, "postgres")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", linked)
	list := candidates()
	if !slices.Contains(list, whole) || slices.Contains(list, linked) {
		t.Errorf("candidates: %v", list)
	}
	as, err := defaultAccount()
	if err != nil {
		t.Fatal(err)
	}
	if found, err := inspect(t.Context(), whole, as); err == nil {
		t.Errorf("without initdb: %+v", found)
	}
}

func TestNotFoundSaysWhatToDo(t *testing.T) {
	text := notFoundError{as: account{name: "nobody"}}.Error()
	for _, want := range []string{"apt-get install postgresql", "make postgresql", BinariesVariable, "nobody"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %q", want, text)
		}
	}
}

func TestParseVersion(t *testing.T) {
	for output, want := range map[string]struct {
		version string
		major   int
	}{
		"postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n": {"15.18", 15},
		"postgres (PostgreSQL) 18.4\n":                           {"18.4", 18},
		"postgres (PostgreSQL) 19beta1\n":                        {"19beta1", 19},
		"postgres (Postgres-XL) 10\n":                            {},
		"":                                                       {},
	} {
		version, major, err := parseVersion(output)
		if version != want.version || major != want.major || (err == nil) != (want.major > 0) {
			t.Errorf("parseVersion(%q) = %q, %d, %v", output, version, major, err)
		}
	}
}

func TestMajorIn(t *testing.T) {
	for bin, want := range map[string]int{
		"/usr/lib/postgresql/15/bin": 15, "/usr/lib/postgresql/9.6/bin": 6, "/usr/pgsql-17/bin": 17,
		"/opt/homebrew/opt/postgresql@18/bin": 18, "/opt/other/bin": 0,
	} {
		if got := majorIn(bin); got != want {
			t.Errorf("majorIn(%q) = %d, want %d", bin, got, want)
		}
	}
}
