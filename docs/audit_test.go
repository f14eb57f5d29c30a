package docs_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/internal/pgtest"
	"github.com/sallyport/sallyport/internal/postgres"
)

const auditPage = "audit.md"

// TestAuditQueries runs the page's SQL as an auditor.
func TestAuditQueries(t *testing.T) {
	db := pgtest.NewFrom(t, "sallyport", func(ctx context.Context, url string) error {
		_, _, err := postgres.Migrate(ctx, url, nil)
		return err
	})
	conn, err := pgx.Connect(t.Context(), db.URL(postgres.Auditor))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, b := range blocks(t, "sql", auditPage) {
		if _, err := conn.Exec(t.Context(), b.text); err != nil {
			t.Errorf("%v\n%s", err, b.text)
		}
	}
}

// TestAuditCommands asks the program for each command of the page and its flags.
func TestAuditCommands(t *testing.T) {
	program := filepath.Join(t.TempDir(), "sallyport")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../cmd/sallyport").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	for _, b := range blocks(t, "sh", auditPage) {
		for line := range strings.Lines(b.text) {
			if words := strings.Fields(line); len(words) > 1 && words[0] == "sallyport" {
				checkCommand(t, program, words[1:])
			}
		}
	}
}

// TestAuditAsking runs the commands of the page with which a reviewer asks, as an
// auditor and in a folder of its own, of a log that the real writer has written.
func TestAuditAsking(t *testing.T) {
	db := seedMonth(t)
	folder := t.TempDir()
	program := filepath.Join(folder, "sallyport")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../cmd/sallyport").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	if err := os.WriteFile(filepath.Join(folder, "auditor-url"), []byte(db.URL(postgres.Auditor)), 0o600); err != nil {
		t.Fatal(err)
	}
	ran := map[string]string{}
	for _, b := range blocks(t, "sh", auditPage) {
		for line := range strings.Lines(b.text) {
			words := strings.Fields(line)
			if len(words) < 4 || !slices.Contains([]string{"query", "stats", "tail", "follow"}, words[2]) {
				continue
			}
			ran[words[2]] += askAs(t, folder, strings.TrimSpace(line), words[2])
		}
	}
	for command, want := range map[string]string{
		"query":  `"attributes":{"operator":"bob","operator_uid":"1001"}`,
		"stats":  "allowed 10, allowed only in report mode 1, denied 7; 9007860 bytes sent, 106720 received",
		"tail":   "decision deny",
		"follow": "",
	} {
		if said, ok := ran[command]; !ok || !strings.Contains(said, want) {
			t.Errorf("%s says\n%s\nwant %q in it", command, said, want)
		}
	}
	exported, err := os.ReadFile(filepath.Join(folder, "partner.csv"))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), db.URL(postgres.Auditor))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var recorded int
	if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM audit.operations WHERE kind = 'export' AND attributes ->> 'digest' = 'sha256:' || $1 AND attributes ->> 'rows' = $2`,
		fmt.Sprintf("%x", sha256.Sum256(exported)), fmt.Sprint(bytes.Count(exported, []byte("\r\n"))-1)).Scan(&recorded); err != nil || recorded != 1 {
		t.Errorf("the export is recorded %d times: %v", recorded, err)
	}
	followed, err := os.ReadFile(filepath.Join(folder, "events.jsonl"))
	if n := bytes.Count(followed, []byte("\n")); err != nil || n < 100 {
		t.Errorf("%d lines were handed on: %v", n, err)
	}
}

// askAs runs a line of the page. What goes on for ever is ended by an interrupt,
// once it has said something.
func askAs(t *testing.T, folder, line, command string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "exec ./"+line)
	cmd.Dir = folder
	if command != "tail" && command != "follow" {
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", line, err, out)
		}
		return string(out)
	}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	first := ""
	if command == "tail" {
		first, _ = bufio.NewReader(pipe).ReadString('\n')
	} else {
		for ticks := time.Tick(10 * time.Millisecond); ; <-ticks {
			if _, err := os.Stat(filepath.Join(folder, "events.jsonl.position")); err == nil || t.Context().Err() != nil {
				break
			}
		}
	}
	_ = cmd.Process.Signal(os.Interrupt)
	if err := cmd.Wait(); err != nil {
		t.Errorf("%s: %v", line, err)
	}
	return first
}
