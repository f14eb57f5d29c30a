// Package readertest verifies logs for the tests of other packages.
package readertest

import (
	"context"
	"testing"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	auditreader "github.com/sallyport/sallyport/audit/postgres/reader"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
)

// Verify reads a log as an auditor.
func Verify(t testing.TB, db *pgtest.DB, trust audit.Trust) *audit.Report {
	t.Helper()
	r, err := auditreader.Open(t.Context(), db.URL(database.Auditor))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	return audittest.ReportOf(t, trust, func(ctx context.Context, v *audit.Verification) error { return r.Walk(ctx, v, nil) })
}
