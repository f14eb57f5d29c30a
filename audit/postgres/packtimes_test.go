package postgres_test

import (
	"flag"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/sealertest"
	"github.com/sallyport/sallyport/audit/postgres/internal/writertest"
	auditsealer "github.com/sallyport/sallyport/audit/postgres/sealer"
	auditwriter "github.com/sallyport/sallyport/audit/postgres/writer"
	"github.com/sallyport/sallyport/internal/database"
)

var packDecisions = flag.Int("measure-pack", 0, "time the commands that read a log of so many decisions, in TestPackTimes")

// TestPackTimes records decisions and their ends through the log's own writer, seals
// them, and reports wall time, processor time and memory of the commands that an
// auditor runs: go test ./audit/postgres -run '^TestPackTimes$' -measure-pack 600000
// -timeout 2h -v. It asserts that the commands succeed, and nothing about their speed.
func TestPackTimes(t *testing.T) {
	if *packDecisions == 0 {
		t.Skip("-measure-pack says how many decisions")
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "sallyport")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../../cmd/sallyport").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	db := audittest.Migrated(t)
	l := writertest.Open(t, db.URL(database.Writer), func(c *auditwriter.Config) { c.Log = nil })
	if err := l.PutPolicy(t.Context(), audittest.DigestOf("content"), []byte("content")); err != nil {
		t.Fatal(err)
	}
	from := time.Now().Add(-time.Minute)
	t.Logf("%.0f events a second recorded", recordRealistic(t, l, *packDecisions))
	to := time.Now()
	begun := time.Now()
	key, err := audit.GenerateKey("measured.example/egress")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := audit.ParseSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	s := sealertest.Open(t, db.URL(database.Sealer), l, func(c *auditsealer.Config) { c.Signer, c.Log = signer, nil })
	for audittest.Seal(t, s); s.Status().Sealed < int64(l.Stats().Recorded); {
		audittest.Seal(t, s)
	}
	t.Logf("%d events sealed in %s", s.Status().Sealed, time.Since(begun).Round(time.Millisecond))
	conn := audittest.Connect(t, db.URL(""))
	if _, err := conn.Exec(t.Context(), "VACUUM ANALYZE"); err != nil {
		t.Fatal(err)
	}
	t.Logf("the database has %s", audittest.QueryValue[string](t, conn, `SELECT pg_size_pretty(pg_database_size(current_database()))`))

	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	login, private := write("login", db.URL(database.Auditor)), write("private", key)
	pack := filepath.Join(dir, "pack")
	decisionAt := func(order string) string {
		return audittest.QueryValue[string](t, conn, `SELECT decision_id::text FROM audit.events WHERE kind = 'decision' ORDER BY time `+order+` LIMIT 1`)
	}
	for _, args := range [][]string{
		{"proof", "--database-url-file", login, decisionAt("ASC")},
		{"proof", "--database-url-file", login, decisionAt("DESC")},
		{"verify", "--database-url-file", login, "--key", string(signer.Key()), "--quiet"},
		{"evidence", "--database-url-file", login, "--key", string(signer.Key()), "--signing-key", private, "--quiet",
			"--since", from.UTC().Format(time.RFC3339), "--until", to.UTC().Format(time.RFC3339Nano), "--out", pack},
		{"evidence", "check", pack, "--key", string(signer.Key())},
	} {
		begun := time.Now()
		cmd := exec.CommandContext(t.Context(), program, append([]string{"audit"}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("audit %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		used := cmd.ProcessState.SysUsage().(*syscall.Rusage)
		t.Logf("audit %-14s %8s wall, %8s processor, %5d MB", strings.TrimSuffix(strings.Join(args[:2], " "), " --database-url-file"), time.Since(begun).Round(time.Millisecond),
			(cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Round(time.Millisecond), used.Maxrss>>10)
	}
	size := int64(0)
	if err := filepath.WalkDir(pack, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		size += info.Size()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Logf("the pack has %s MB", strconv.FormatInt(size>>20, 10))
}
