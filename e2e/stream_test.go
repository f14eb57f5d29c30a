package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	auditsealer "github.com/sallyport/sallyport/audit/postgres/sealer"
	auditwriter "github.com/sallyport/sallyport/audit/postgres/writer"
)

// testLog is a log on a database, written and sealed by this process.
type testLog struct {
	*auditwriter.Log
	*database
	auditor string // a file with the auditor's connection string
	sealer  *auditsealer.Sealer
}

func openLog(t testing.TB, d *database) *testLog {
	t.Helper()
	writer := withUser(d.admin, "sallyport_writer", "x")
	l, err := auditwriter.Open(t.Context(), auditwriter.Config{URL: writer, Version: "test", Deadline: patience})
	if err != nil {
		t.Fatal(err)
	}
	private, err := audit.GenerateKey("log.example/a")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := audit.ParseSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	s, err := auditsealer.Open(auditsealer.Config{URL: withUser(d.admin, "sallyport_sealer", "x"), Writer: l.Writer, Record: l.Record, Signer: signer, Interval: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
		closing, end := context.WithTimeout(context.Background(), patience)
		defer end()
		_ = l.Close(closing)
		_ = s.Close(closing)
	})
	file := filepath.Join(t.TempDir(), "auditor-url")
	if err := os.WriteFile(file, []byte(withUser(d.admin, "sallyport_auditor", "x")), 0o600); err != nil {
		t.Fatal(err)
	}
	return &testLog{l, d, file, s}
}

func deniedEvent(n int) *audit.Event {
	return &audit.Event{
		Time: time.Now(), Kind: audit.KindDecision, DecisionID: fmt.Sprintf("01a1fdf4-c192-7cf7-900b-%012x", n), Action: "connect",
		Host: fmt.Sprintf("h%d.partner.example", n), Port: 443, Verdict: "deny", Mode: "enforce", Reason: "no_rule_matched", Repository: "acme/payments",
		Input: []byte(`{"pad":"` + strings.Repeat("x", 1000) + `"}`),
	}
}

// load records, so many at once, until stop is called.
func (l *testLog) load(t testing.TB, lanes int) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for lane := range lanes {
		running.Go(func() {
			for n := lane; ctx.Err() == nil; n += lanes {
				if err := l.Record(t.Context(), deniedEvent(n)); err != nil {
					t.Errorf("record: %v", err)
					return
				}
			}
		})
	}
	return func() { cancel(); running.Wait() }
}

// command is the program on this log.
func (l *testLog) command(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	return exec.CommandContext(t.Context(), released(t), append(append([]string{"audit"}, args...), "--database-url-file", l.auditor)...)
}

func (l *testLog) connect(t testing.TB) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), l.admin)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func (l *testLog) queryInt(t testing.TB, conn *pgx.Conn, sql string) int64 {
	t.Helper()
	var n int64
	if err := conn.QueryRow(t.Context(), sql).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

const (
	leavesSQL   = `SELECT count(*) FROM audit.leaves`
	unsealedSQL = `SELECT count(*) FROM audit.events e WHERE NOT EXISTS (SELECT FROM audit.leaves l WHERE l.writer = e.writer AND l.writer_sequence = e.writer_sequence)`
)

// followed reads what a follower wrote, in this order of files: the leaves as they
// came, each time with its record. A line that has no end was being written.
func followed(t testing.TB, paths ...string) (leaves []int64, records map[int64]string) {
	t.Helper()
	records = map[int64]string{}
	for _, path := range paths {
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(file)
		for {
			line, err := r.ReadString('\n')
			if errors.Is(err, io.EOF) {
				break
			}
			var output struct {
				Leaf   *int64
				Record json.RawMessage
			}
			if err := json.Unmarshal([]byte(line), &output); err != nil || output.Leaf == nil || output.Record == nil {
				t.Fatalf("%s has the line %.200q: %v", path, line, err)
			}
			if before, again := records[*output.Leaf]; again && before != string(output.Record) {
				t.Errorf("leaf %d came twice and was two different records", *output.Leaf)
			}
			records[*output.Leaf] = string(output.Record)
			leaves = append(leaves, *output.Leaf)
		}
		_ = file.Close()
	}
	return leaves, records
}

// TestStreamKilled: a follower that is killed at any moment, again and again, under
// load and while its file is renamed, writes every leaf, in order except for the leaves
// that it repeats after a start.
func TestStreamKilled(t *testing.T) {
	t.Parallel()
	l := openLog(t, newDatabase(t))
	stop := l.load(t, 3)
	directory := t.TempDir()
	out := filepath.Join(directory, "events.jsonl")
	args := []string{"stream", "--out", out, "--interval", "10ms"}
	var files []string
	repeated := rand.New(rand.NewPCG(5, 6))
	var size int64
	for kill := range 20 {
		f := l.command(t, args...)
		f.Stderr = os.Stderr
		if err := f.Start(); err != nil {
			t.Fatal(err)
		}
		grown := size + 1 + int64(repeated.IntN(20_000))
		eventually(t, "it writes", func() bool {
			info, err := os.Stat(out)
			return err == nil && info.Size() >= grown || kill%7 == 3 && err == nil && info.Size() > size
		})
		if kill%7 == 3 { // a rotation in the middle
			moved := fmt.Sprintf("%s.%d", out, kill)
			if err := os.Rename(out, moved); err != nil {
				t.Fatal(err)
			}
			files = append(files, moved)
			if kill == 10 {
				_ = f.Process.Signal(syscall.SIGHUP)
			}
			eventually(t, "it makes the file anew", func() bool {
				info, err := os.Stat(out)
				return err == nil && info.Size() > 0
			})
		}
		if err := f.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = f.Wait()
		info, err := os.Stat(out)
		if err != nil {
			t.Fatal(err)
		}
		size = info.Size()
	}
	stop()
	conn := l.connect(t)
	eventually(t, "all is sealed", func() bool { return l.queryInt(t, conn, unsealedSQL) == 0 })
	if output, err := l.command(t, append(args, "--once")...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	leaves, records := followed(t, append(files, out)...)
	total := l.queryInt(t, conn, leavesSQL)
	again := 0
	for i, leaf := range leaves {
		before := int64(-1)
		if i > 0 {
			before = leaves[i-1]
		}
		if leaf > before+1 {
			t.Fatalf("leaf %d comes after %d: a gap", leaf, before)
		}
		if leaf <= before {
			again++
		}
	}
	if int64(len(records)) != total || records[total-1] == "" {
		t.Errorf("%d leaves were handed on of %d", len(records), total)
	}
	if again > 20 {
		t.Errorf("it went back %d times after 20 kills", again)
	}
	var wrong int64
	rows, err := conn.Query(t.Context(), `SELECT l.index, convert_from(audit.record(e), 'UTF8') FROM audit.leaves l JOIN audit.events e USING (writer, writer_sequence)`)
	if err != nil {
		t.Fatal(err)
	}
	var index int64
	var record string
	if _, err := pgx.ForEachRow(rows, []any{&index, &record}, func() error {
		if records[index] != record {
			wrong++
		}
		return nil
	}); err != nil || wrong > 0 {
		t.Errorf("%d records are not those of the log: %v", wrong, err)
	}
	t.Logf("%d leaves, %d lines, %d times back", total, len(leaves), again)
}

// TestStreamStopped: a stopped consumer holds no lock in the database:
// writers continue, and so does the session that detaches a table.
func TestStreamStopped(t *testing.T) {
	t.Parallel()
	l := openLog(t, newDatabase(t))
	stop := l.load(t, 3)
	defer stop()
	conn := l.connect(t)
	// Its reader has stopped too: standard output is a pipe that is not emptied.
	f := l.command(t, "stream", "--position", filepath.Join(t.TempDir(), "position"), "--interval", "10ms")
	pipe, err := f.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Start(); err != nil {
		t.Fatal(err)
	}
	const held = `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'sallyport stream' AND (state <> 'idle' OR backend_xmin IS NOT NULL)`
	free := func(when string) {
		t.Helper()
		eventually(t, when+": the consumer holds nothing in the database", func() bool { return l.queryInt(t, conn, held) == 0 })
		before := l.queryInt(t, conn, `SELECT count(*) FROM audit.events`)
		eventually(t, when+": writers continue", func() bool { return l.queryInt(t, conn, `SELECT count(*) FROM audit.events`) > before+100 })
		// One transaction per table: a sealer that holds one table and waits for the
		// other would deadlock with a transaction that locks both.
		for _, table := range []string{"audit.events", "audit.leaves"} {
			if _, err := conn.Exec(t.Context(), `SET lock_timeout = '20s'; BEGIN; LOCK TABLE `+table+` IN ACCESS EXCLUSIVE MODE; COMMIT`); err != nil {
				t.Errorf("%s: %s cannot be locked: %v", when, table, err)
				_, _ = conn.Exec(t.Context(), `ROLLBACK`)
			}
		}
		if n := l.queryInt(t, conn, held); n != 0 {
			t.Errorf("%s: it holds something again", when)
		}
	}
	if _, err := io.ReadFull(pipe, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	free("its reader has stopped")
	for n := range 3 {
		go func() { _, _ = io.CopyN(io.Discard, pipe, 300_000) }()
		_ = f.Process.Signal(syscall.SIGSTOP)
		free(fmt.Sprintf("it is stopped the time %d", n))
		_ = f.Process.Signal(syscall.SIGCONT)
	}
	_ = f.Process.Kill()
	_ = f.Wait()
}

// TestStreamFaults: a full disk, a log that is not the one that was followed, and
// two at once end with what is wrong; and it continues from where it was.
func TestStreamFaults(t *testing.T) {
	t.Parallel()
	l := openLog(t, newDatabase(t))
	for n := range 50 {
		if err := l.Record(t.Context(), deniedEvent(n)); err != nil {
			t.Fatal(err)
		}
	}
	conn := l.connect(t)
	eventually(t, "all is sealed", func() bool { return l.queryInt(t, conn, unsealedSQL) == 0 })
	total := l.queryInt(t, conn, leavesSQL)
	directory := t.TempDir()
	out, position := filepath.Join(directory, "events.jsonl"), filepath.Join(directory, "position")
	run := func(code int, args ...string) string {
		t.Helper()
		output, err := l.command(t, append([]string{"stream", "--once", "--position", position}, args...)...).CombinedOutput()
		got := 0
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			got = exit.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		if got != code {
			t.Errorf("%q ends with %d, want %d: %s", args, got, code, output)
		}
		return string(output)
	}
	if _, err := os.Stat("/dev/full"); err == nil {
		if output := run(1, "--out", "/dev/full"); !strings.Contains(output, "no space left on device; it continues at leaf 0 after a restart") {
			t.Errorf("a full disk: %s", output)
		}
	}
	run(0, "--out", out)
	run(0, "--out", out) // nothing more
	if leaves, _ := followed(t, out); int64(len(leaves)) != total || !slices.IsSorted(leaves) {
		t.Errorf("%d lines of %d leaves", len(leaves), total)
	}
	for text, want := range map[string]string{
		fmt.Sprintf(`{"next":%d,"hash":"AQIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}`, total+5): "restored from a backup",
		`{"next":3,"hash":"AQIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}`:                        "has followed another log",
		"{": "has no valid position",
	} {
		if err := os.WriteFile(position, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if output := run(1, "--out", out); !strings.Contains(output, want) {
			t.Errorf("%s: %s", text, output)
		}
	}
	_ = os.Remove(position)
	f := l.command(t, "stream", "--position", position, "--out", out)
	var stderr bytes.Buffer
	f.Stderr = &stderr
	if err := f.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it has its place", func() bool { _, err := os.Stat(position); return err == nil })
	if output := run(1, "--out", out); !strings.Contains(output, "another process follows") {
		t.Errorf("two at once: %s", output)
	}
	_ = f.Process.Signal(syscall.SIGTERM)
	if err := f.Wait(); err != nil {
		t.Errorf("ended by an operator: %v: %s", err, stderr.String())
	}
}
