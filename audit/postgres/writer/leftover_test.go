package writer

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	auditpg "github.com/sallyport/sallyport/audit/postgres"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
)

// leftBy is what a process that was killed during an outage leaves: its first
// event in the database, and ten more in its journal.
func leftBy(t *testing.T, db *pgtest.DB, folder string) (writer, path string) {
	t.Helper()
	l := logFor(t, db.URL(database.Writer), func(c *Config) { c.Journal = folder; c.Spool = true })
	kill(l)
	j := &journal{folder: folder, writer: l.Writer(), secret: l.secret, spool: true, maxBytes: 1 << 20, maxAge: time.Hour}
	if err := j.append(rowsOf(l.Writer(), 2, 10), time.Now()); err != nil {
		t.Fatal(err)
	}
	j.close()
	return l.Writer(), j.path()
}

// frames cuts a journal into its frames, the header first.
func frames(t *testing.T, b []byte) [][]byte {
	t.Helper()
	var all [][]byte
	for in := bytes.NewReader(b); in.Len() > 0; {
		payload, err := readFrame(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, appendFrame(nil, payload))
	}
	return all
}

// journalEvents are the attributes of the events that report journals.
func journalEvents(t *testing.T, conn *pgx.Conn) []map[string]string {
	t.Helper()
	var all []map[string]string
	for _, text := range audittest.QueryStrings(t, conn, `SELECT convert_from(record, 'UTF8')::json ->> 'attributes' FROM audit.events
		WHERE kind = 'admin' AND action = 'journal_replayed' ORDER BY time, writer_sequence`) {
		var a map[string]string
		if err := json.Unmarshal([]byte(text), &a); err != nil {
			t.Fatal(err)
		}
		all = append(all, a)
	}
	return all
}

// Whatever became of a journal on the disk: what is sound of it is written, once;
// what is not is kept, and an event states what is wrong with it.
func TestDamagedJournals(t *testing.T) {
	t.Parallel()
	other, _ := auditpg.NewWriter(time.Now())
	header := func(writer string) []byte { return appendFrame(nil, (&journal{writer: writer, spool: true}).header()) }
	for _, tt := range []struct {
		name   string
		damage func(b []byte, f [][]byte) []byte
		events int    // of its ten
		says   string // what is wrong with it; empty: nothing
	}{
		{"sound", func(b []byte, _ [][]byte) []byte { return b }, 10, ""},
		{"a bit is another", func(b []byte, f [][]byte) []byte {
			b[len(bytes.Join(f[:5], nil))+30] ^= 1
			return b
		}, 4, "checksum"},
		{"a bit of the header is another", func(b []byte, _ [][]byte) []byte { b[20] ^= 1; return b }, 0, "checksum"},
		{"cut within an event", func(b []byte, _ [][]byte) []byte { return b[:len(b)-7] }, 9, "was not finished"},
		{"cut within its header", func(b []byte, _ [][]byte) []byte { return b[:11] }, 0, "was not finished"},
		{"cut between two events", func(_ []byte, f [][]byte) []byte { return bytes.Join(f[:7], nil) }, 6, ""}, // it has no end, which is found out as that
		{"an event is missing", func(_ []byte, f [][]byte) []byte { return bytes.Join(append(f[:4:4], f[5:]...), nil) }, 3, "event 6 follows event 4"},
		{"an event is there twice", func(_ []byte, f [][]byte) []byte { return bytes.Join(append(f[:4:4], f[3:]...), nil) }, 3, "event 4 follows event 4"},
		{"an event of another writer", func(_ []byte, f [][]byte) []byte {
			return bytes.Join([][]byte{f[0], f[1], appendFrame(nil, rowsOf(other, 3, 1).tuple(rowsOf(other, 3, 1).rows[0]))}, nil)
		}, 1, "holds an event of"},
		{"another writer's", func(_ []byte, f [][]byte) []byte { return bytes.Join(append([][]byte{header(other)}, f[1:]...), nil) }, 0, "its name has writer"},
		{"of another version", func(_ []byte, f [][]byte) []byte {
			return bytes.Join(append([][]byte{appendFrame(nil, []byte(`{"format":2}`))}, f[1:]...), nil)
		}, 0, "with the version that wrote it"},
		{"nothing is in it", func([]byte, [][]byte) []byte { return nil }, 0, "nothing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			db, folder := audittest.Migrated(t), t.TempDir()
			writer, path := leftBy(t, db, folder)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			damaged := tt.damage(bytes.Clone(b), frames(t, b))
			if err := os.WriteFile(path, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			next := logFor(t, db.URL(database.Writer), func(c *Config) { c.Journal = folder })
			audittest.Close(t, next)
			conn := audittest.Connect(t, db.URL(""))
			audittest.Sound(t, conn)
			if n := audittest.QueryValue[int](t, conn, "SELECT count(*) FROM audit.events WHERE writer = $1 AND writer_sequence > 1", writer); n != tt.events {
				t.Errorf("%d events were written of %d", n, tt.events)
			}
			left, _ := filepath.Glob(filepath.Join(folder, "*"))
			told := journalEvents(t, conn)
			if tt.says == "nothing" { // nothing was ever acknowledged from it
				if len(left)+len(told) > 0 {
					t.Errorf("left %v, said %v", left, told)
				}
				return
			}
			if len(told) != 1 || told[0]["writer"] != writer || told[0]["events"] != strconv.Itoa(tt.events) {
				t.Fatalf("it says %v", told)
			}
			damage, suffix := told[0]["damage"], ".damaged"
			if tt.says == "was not finished" { // as kill -9 leaves it
				damage, suffix = told[0]["cut_short"], ".cut"
			}
			if (damage == "") != (tt.says == "") || !strings.Contains(damage, tt.says) {
				t.Errorf("it says that the damage is %q", damage)
			}
			if tt.says == "" {
				if len(left) > 0 {
					t.Errorf("left: %v", left)
				}
				return
			}
			kept, err := os.ReadFile(path + suffix)
			if err != nil || !bytes.Equal(kept, damaged) || told[0]["kept_as"] != filepath.Base(path)+suffix || len(left) != 1 {
				t.Errorf("it was not kept as it was: %v, %v, %v", err, told, left)
			}
		})
	}
}

// A journal that is put back after it was replayed changes nothing; one with other
// content under the same numbers is not accepted; and neither replaces what was kept
// before.
func TestJournalReplayedTwice(t *testing.T) {
	t.Parallel()
	db, folder := audittest.Migrated(t), t.TempDir()
	writer, path := leftBy(t, db, folder)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	again := func() {
		t.Helper()
		audittest.Close(t, logFor(t, db.URL(database.Writer), func(c *Config) { c.Journal = folder }))
	}
	put := func(b []byte) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	again()
	put(b)
	again()
	put(append(frames(t, b)[0], appendFrame(nil, rowsOf(writer, 5, 1).tuple(rowsOf(writer, 5, 1).rows[0]))...))
	again()
	b[20] ^= 1
	put(b)
	again()
	conn := audittest.Connect(t, db.URL(""))
	audittest.Sound(t, conn)
	told := journalEvents(t, conn)
	if len(told) != 4 || told[0]["new"] != "10" || told[1]["new"] != "0" || told[1]["events"] != "10" || told[1]["damage"] != "" {
		t.Fatalf("it says %v", told)
	}
	if !strings.Contains(told[2]["damage"], "other content") || told[2]["kept_as"] != writer+".journal.damaged" || told[3]["kept_as"] != writer+".journal.damaged-2" {
		t.Errorf("it says %v and %v", told[2], told[3])
	}
	if n := audittest.QueryValue[int](t, conn, "SELECT count(*) FROM audit.events WHERE writer = $1", writer); n != 11 {
		t.Errorf("%d events of 11", n)
	}
}

// data_directory is used with another database: its journal is not mixed into a
// log that never known its writer.
func TestJournalOfAnotherLog(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	writer, path := leftBy(t, audittest.Migrated(t), folder)
	db := audittest.Migrated(t)
	audittest.Close(t, logFor(t, db.URL(database.Writer), func(c *Config) { c.Journal = folder }))
	conn := audittest.Connect(t, db.URL(""))
	if n := audittest.QueryValue[int](t, conn, "SELECT count(*) FROM audit.events WHERE writer = $1", writer); n != 0 {
		t.Errorf("%d events of another log", n)
	}
	if told := journalEvents(t, conn); len(told) != 1 || !strings.Contains(told[0]["damage"], "knows nothing of its writer") {
		t.Errorf("it says %v", told)
	}
	if _, err := os.Stat(path + ".damaged"); err != nil {
		t.Error(err)
	}
}

// A journal that cannot be read stops the start: what is in it may be whole.
func TestUnreadableJournal(t *testing.T) {
	t.Parallel()
	db, folder := audittest.Migrated(t), t.TempDir()
	writer, _ := auditpg.NewWriter(time.Now())
	path := filepath.Join(folder, writer+journalSuffix)
	if err := os.Mkdir(path, 0o700); err != nil { // opened, and not to be read, by root neither
		t.Fatal(err)
	}
	_, err := Open(t.Context(), Config{URL: db.URL(database.Writer), Journal: folder})
	if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "keep it") {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

// What the process left open in the database is ended before its journal is
// written, so that nothing is there twice and nothing waits.
func TestJournalAfterAnOpenTransaction(t *testing.T) {
	t.Parallel()
	db, folder := audittest.Migrated(t), t.TempDir()
	writer, path := leftBy(t, db, folder)
	config, err := database.ParseConfig(db.URL(database.Writer), auditpg.ApplicationName(writer))
	if err != nil {
		t.Fatal(err)
	}
	config.RuntimeParams["application_name"] = auditpg.ApplicationName(writer)
	old, err := openSession(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer old.close()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	j, err := openJournal(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := old.authenticate(t.Context(), j.Secret); err != nil {
		t.Fatal(err)
	}
	if _, err := old.conn.Exec(t.Context(), "BEGIN"); err != nil {
		t.Fatal(err)
	}
	if err := old.write(t.Context(), rowsOf(writer, 2, 10)); err != nil { // and its COMMIT is still to come
		t.Fatal(err)
	}
	audittest.Close(t, logFor(t, db.URL(database.Writer), func(c *Config) { c.Journal = folder }))
	if _, err := old.conn.Exec(t.Context(), "COMMIT"); err == nil {
		t.Error("the old session goes on")
	}
	conn := audittest.Connect(t, db.URL(""))
	audittest.Sound(t, conn)
	if told := journalEvents(t, conn); len(told) != 1 || told[0]["new"] != "10" {
		t.Errorf("it says %v", told)
	}
}

// Two processes share data_directory while one replaces the other. The one that
// was to end is killed during an outage: the one that continues writes what it left.
func TestJournalOfTheProcessBefore(t *testing.T) {
	t.Parallel()
	server, db, before := spooling(t, nil)
	folder := before.config.Journal
	server.Restart(t)
	audittest.Eventually(t, "back", func() bool { return before.outage.Load() == nil })
	next := logFor(t, db.URL(database.Writer), func(c *Config) { c.Journal = folder; c.Spool = true })
	server.Kill(t)
	audittest.Record(t, before, audittest.Decision("allow", 1))
	audittest.Record(t, next, audittest.Decision("allow", 2))
	kill(before)
	server.Restart(t)
	conn := audittest.Connect(t, db.URL(""))
	audittest.Eventually(t, "what it left is in the log", func() bool {
		return audittest.QueryValue[int](t, conn, "SELECT count(*) FROM audit.decisions WHERE verdict = 'allow'") == 3
	})
	audittest.Close(t, next)
	audittest.Sound(t, conn)
	if left, _ := filepath.Glob(filepath.Join(folder, "*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestStrangeJournals: what is written to the log from the journal's folder is a
// file of this user's that not everybody may write to. Anything else is left
// where it is, stops the start, and is not waited for.
func TestStrangeJournals(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	for _, tt := range []struct {
		name string
		do   func(folder, path string) error
		says string
	}{
		{"a link to a journal elsewhere", func(folder, path string) error {
			elsewhere := filepath.Join(filepath.Dir(folder), "elsewhere")
			return errors.Join(os.Rename(path, elsewhere), os.Symlink(elsewhere, path))
		}, "symbolic links"},
		{"a pipe that nobody writes to", func(_, path string) error { return errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)) }, "it is not a file"},
		{"a file that everybody may write to", func(_, path string) error { return os.Chmod(path, 0o666) }, "everybody may write to it"},
		{"a folder that everybody may write to", func(folder, _ string) error { return os.Chmod(folder, 0o777) }, "everybody may write to the journal's folder"},
		{"another user's file", func(_, path string) error {
			if os.Geteuid() != 0 { // only root can change the owner of a file: a link to one of root's
				return errors.Join(os.Remove(path), os.Link("/etc/hostname", path), os.Symlink("/etc/hostname", path))
			}
			return os.Chown(path, 65534, 65534)
		}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			folder := filepath.Join(t.TempDir(), "journal")
			if err := os.Mkdir(folder, 0o700); err != nil {
				t.Fatal(err)
			}
			writer, path := leftBy(t, db, folder)
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
				t.Fatalf("%v, %v", info, err)
			}
			_ = tt.do(folder, path)
			l, err := Open(t.Context(), Config{URL: db.URL(database.Writer), Journal: folder})
			if err == nil {
				audittest.Close(t, l)
				t.Fatal("it is written to the log")
			}
			if !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v", err)
			}
			if _, err := os.Lstat(path); err != nil {
				t.Error(err)
			}
			if n := audittest.QueryValue[int](t, audittest.Connect(t, db.URL("")), `SELECT count(*) FROM audit.events WHERE writer = $1 AND writer_sequence > 1`, writer); n != 0 {
				t.Errorf("%d events of it are in the log", n)
			}
		})
	}
}
