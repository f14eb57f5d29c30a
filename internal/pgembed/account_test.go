package pgembed

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A machine without Debian's package has no user "postgres". An ordinary user
// runs the server as itself, here as anywhere.
func TestWithoutAPostgresUser(t *testing.T) {
	before := serverUsers
	t.Cleanup(func() { serverUsers = before })
	serverUsers = []string{"no-such-user", "nobody"}

	directory := filepath.Join(t.TempDir(), "postgresql")
	first := start(t, Config{Directory: directory, NoSync: true})
	if os.Geteuid() == 0 && first.User() != "nobody" {
		t.Errorf("root runs it as %q", first.User())
	}
	if os.Geteuid() != 0 && first.as.uid != uint32(os.Geteuid()) {
		t.Errorf("user %d runs it as %d", os.Geteuid(), first.as.uid)
	}
	owner := strconv.Itoa(int(first.as.uid))
	if got := query(t, first.Endpoint, Superuser, "select (pg_stat_file('.')).isdir"); got != "t" {
		t.Errorf("the cluster is not a directory: %q", got)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}

	// The package comes later: the cluster keeps its owner.
	serverUsers = before
	second := start(t, Config{Directory: directory, NoSync: true})
	if got := strconv.Itoa(int(second.as.uid)); got != owner {
		t.Errorf("the cluster of user %s is run as user %s", owner, got)
	}
}

func TestRootNeedsSomebodyToRunItAs(t *testing.T) {
	if os.Geteuid() != 0 {
		return // only root asks
	}
	before := serverUsers
	t.Cleanup(func() { serverUsers = before })
	serverUsers = []string{"no-such-user", "root"}
	if as, err := defaultAccount(); err == nil || !strings.Contains(err.Error(), "ordinary user") {
		t.Errorf("defaultAccount() = %+v, %v", as, err)
	}
}

func TestAClusterOfRootIsRefused(t *testing.T) {
	directory := t.TempDir()
	if err := os.Mkdir(filepath.Join(directory, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	as, err := accountFor(directory)
	if os.Geteuid() != 0 {
		if err != nil || as.switched {
			t.Errorf("our own cluster: %+v, %v", as, err)
		}
		return
	}
	if err == nil || !strings.Contains(err.Error(), "chown") {
		t.Errorf("root's cluster: %+v, %v", as, err)
	}
}
