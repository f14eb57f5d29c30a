package docs_test

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

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
