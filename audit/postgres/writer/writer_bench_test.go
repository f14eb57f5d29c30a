package writer

import (
	"fmt"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/internal/database"
)

// BenchmarkCheckWriter inserts rows with and without the trigger that compares the
// name of the writer with its secret. The best run of each counts, in µs a row.
func BenchmarkCheckWriter(b *testing.B) {
	const rows = 4000
	db := audittest.Migrated(b)
	admin, writer := audittest.Connect(b, db.URL("")), audittest.Connect(b, db.URL(database.Writer))
	name := audittest.ActAs(b, writer)
	audittest.MustExec(b, admin, `SELECT audit.ensure_partition('2026-11-30')`)
	run := func(b *testing.B) {
		best := time.Duration(1 << 62)
		for range 30 {
			tx, err := writer.Begin(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			began := time.Now()
			if _, err := tx.Exec(b.Context(), fmt.Sprintf(`INSERT INTO audit.events (time, kind, decision_id, writer, writer_sequence, verdict, host, port, record)
				SELECT '2026-11-30', 'decision', '019a0000-0000-7000-8000-000000000001', '%s', n, 'allow', 'api.partner.example', 443, convert_to(repeat('x', 600), 'UTF8') FROM generate_series(1, %d) n`, name, rows)); err != nil {
				b.Fatal(err)
			}
			best = min(best, time.Since(began))
			if err := tx.Rollback(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(best.Nanoseconds())/rows/1000, "µs/row")
	}
	b.Run("checked", run)
	audittest.MustExec(b, admin, `ALTER TABLE audit.events DISABLE TRIGGER check_writer; ALTER TABLE audit.events_2026_11 DISABLE TRIGGER check_writer`)
	b.Run("unchecked", run)
}
