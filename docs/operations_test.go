package docs_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	auditwriter "github.com/sallyport/sallyport/audit/postgres/writer"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgembed"
	"github.com/sallyport/sallyport/internal/pgtest"
)

const operations = "operations.md"

// shell runs blocks of the page unchanged.
type shell struct {
	t         *testing.T
	directory string
	env       []string
}

func (s shell) run(name string) string {
	s.t.Helper()
	all := blocks(s.t, "sh", operations)
	i := slices.IndexFunc(all, func(b block) bool { return b.name == name })
	if i < 0 {
		s.t.Fatalf("%s has no block # %s", operations, name)
	}
	cmd := exec.CommandContext(s.t.Context(), "sh", "-eu", "-c", all[i].text)
	cmd.Dir, cmd.Env = s.directory, s.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("# %s: %v\n%s", name, err, out)
	}
	return string(out)
}

// TestBackupAndRestore runs the page's commands on a real PostgreSQL, and checks the
// page's statements about the restored log.
func TestBackupAndRestore(t *testing.T) {
	db := pgtest.Start(t, pgtest.Options{}).New(t)
	if _, _, err := database.Migrate(t.Context(), db.URL(""), nil); err != nil {
		t.Fatal(err)
	}
	to, err := pgx.ParseConfig(db.URL(""))
	if err != nil {
		t.Fatal(err)
	}
	binaries, err := pgembed.Find(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	s := shell{t, t.TempDir(), append(os.Environ(), "PGHOST="+to.Host, "PGUSER="+to.User, "PGDATABASE="+to.Database,
		"PATH="+strings.Join([]string{filepath.Dir(program(t)), binaries.Directory, os.Getenv("PATH")}, string(os.PathListSeparator)))}

	l, err := auditwriter.Open(t.Context(), auditwriter.Config{URL: db.URL(database.Writer), Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	record := func() {
		t.Helper()
		e := &audit.Event{Time: time.Now(), Kind: audit.KindPolicyLoaded, Revision: "sha256:" + strings.Repeat("0", 64)}
		if err := l.Record(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	record()
	s.run("backup")
	record() // what the backup does not have
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.run("restore")

	restored := func(user string) *pgx.Conn {
		t.Helper()
		c, err := pgx.ParseConfig(db.URL(user))
		if err != nil {
			t.Fatal(err)
		}
		c.Database += "_restored"
		conn, err := pgx.ConnectConfig(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		return conn
	}
	auditor := restored(database.Auditor)
	// The log is complete up to the backup, and has no end of its writer.
	var events, missing int
	var ended *time.Time
	if err := auditor.QueryRow(t.Context(), `SELECT events, missing, ended_at FROM audit.writers`).Scan(&events, &missing, &ended); err != nil {
		t.Fatal(err)
	}
	if events != 2 || missing != 0 || ended != nil {
		t.Errorf("%d events, %d missing, ended %v", events, missing, ended)
	}
	for _, sql := range []string{"DELETE FROM audit.events", "UPDATE audit.events SET host = 'x'"} {
		if _, err := restored(database.Writer).Exec(t.Context(), sql); err == nil {
			t.Errorf("a restored log lets its writer %s", sql)
		}
		// What forbids it to the owner as well came back too.
		if _, err := restored("").Exec(t.Context(), sql); err == nil {
			t.Errorf("a restored log lets a superuser %s", sql)
		}
	}
	s.run("base backup")
}

// TestOperationsCommands parses every shell block of the page, and asks the real
// program for each command in them and for its flags.
func TestOperationsCommands(t *testing.T) {
	for _, b := range blocks(t, "sh", operations) {
		if out, err := exec.CommandContext(t.Context(), "sh", "-n", "-c", b.text).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s\n%s", err, b.text, out)
		}
		for line := range strings.Lines(b.text) {
			line, _, _ = strings.Cut(line, "|")
			line = strings.TrimPrefix(strings.TrimSpace(line), "sudo ")
			if words := strings.Fields(line); len(words) > 1 && words[0] == "sallyport" {
				checkCommand(t, words[1:])
			}
		}
	}
}

// TestOperationsNamesReasons: every reason that the page explains exists.
func TestOperationsNamesReasons(t *testing.T) {
	_, section, found := strings.Cut(read(t, operations), "\n## Troubleshooting by reason\n")
	if !found {
		t.Fatal("the page has no such section")
	}
	rows := regexp.MustCompile("(?m)^\\| ((?:`[a-z_]+`(?:, )?)+) \\| ").FindAllStringSubmatch(section, -1)
	if len(rows) < 8 {
		t.Fatalf("the section was read as %d rows", len(rows))
	}
	reasons := read(t, "reasons.md")
	for _, row := range rows {
		for _, reason := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(row[1], -1) {
			if !strings.Contains(reasons, "| `"+reason[1]+"` |") {
				t.Errorf("there is no reason %s", reason[1])
			}
		}
	}
}
