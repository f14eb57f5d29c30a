package writer

import (
	"bytes"
	"flag"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	auditpg "github.com/sallyport/sallyport/audit/postgres"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
)

var indexRows = flag.Int("index-rows", 100_000, "the events that the database has before `BenchmarkIndexes`")

// BenchmarkIndexes is what each index costs an event: the database inserts decisions and ends
// in groups of 500, with all indexes and without one of them, in µs of elapsed time a row.
// Each is measured in a transaction that is rolled back.
func BenchmarkIndexes(b *testing.B) {
	const group, measured = 500, 40
	db := audittest.Migrated(b)
	admin := audittest.Connect(b, db.URL(""))
	audittest.MustExec(b, admin, `SELECT audit.ensure_partition(current_date)`)
	name, _ := auditpg.NewWriter(time.Now())
	sequence := int64(0)
	next := func() []byte {
		g := newGroup(name)
		for len(g.rows) < group {
			decision := audittest.Decision("allow", int(sequence))
			end := audittest.EndOf(decision, time.Now())
			end.CloseReason, end.BytesSent, end.BytesReceived = "finished", 517, 12_345
			for _, e := range []*audit.Event{decision, end} {
				e.Normalise()
				sequence++
				e.Writer, e.WriterSequence = name, sequence
				g.add(e, nil)
			}
		}
		return append(bytes.Clone(g.buffer), auditpg.CopyTrailer...)
	}
	insert := func(groups [][]byte) {
		for _, g := range groups {
			if _, err := admin.PgConn().CopyFrom(b.Context(), bytes.NewReader(g), auditpg.CopySQL); err != nil {
				b.Fatal(err)
			}
		}
	}
	for range *indexRows / group {
		insert([][]byte{next()})
	}
	rows, _ := admin.Query(b.Context(), `SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'audit.events'::regclass AND NOT indisprimary ORDER BY 1`)
	indexes, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		b.Fatal(err)
	}
	for _, without := range append([]string{"none"}, indexes...) {
		b.Run("without="+without, func(b *testing.B) {
			groups := make([][]byte, measured)
			for i := range groups {
				groups[i] = next()
			}
			best := time.Duration(1 << 62)
			for range 3 {
				audittest.MustExec(b, admin, `BEGIN`)
				if without != "none" {
					audittest.MustExec(b, admin, `DROP INDEX `+without)
				}
				began := time.Now()
				insert(groups)
				best = min(best, time.Since(began))
				audittest.MustExec(b, admin, `ROLLBACK`)
			}
			b.ReportMetric(float64(best.Nanoseconds())/group/measured/1000, "µs/row")
			b.ReportMetric(0, "ns/op")
		})
	}
}
