package reader

import (
	"context"
	"sync"
	"testing"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/sealertest"
	"github.com/sallyport/sallyport/audit/postgres/internal/writertest"
	auditsealer "github.com/sallyport/sallyport/audit/postgres/sealer"
	auditwriter "github.com/sallyport/sallyport/audit/postgres/writer"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
)

// fill records decisions and their ends, and seals them.
func fill(b testing.TB, db *pgtest.DB, events int) *audit.Signer {
	b.Helper()
	l := writertest.Open(b, db.URL(database.Writer), func(c *auditwriter.Config) { c.Log = nil })
	key := audittest.NewKey(b, "")
	s := sealertest.Open(b, db.URL(database.Writer), l, func(c *auditsealer.Config) { c.Signer, c.Log = key, nil })
	audittest.Seal(b, s)
	var wg sync.WaitGroup
	for n := range 256 {
		wg.Go(func() {
			for range events / 512 {
				e := audittest.Decision("allow", n)
				id := *e
				if err := l.Record(context.Background(), e); err != nil {
					b.Error(err)
					return
				}
				end := audittest.EndOf(&id, id.Time)
				end.BytesSent, end.BytesReceived, end.CloseReason, end.Status = 517, 123456, "finished", 0
				if err := l.Record(context.Background(), end); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	audittest.Close(b, l)
	if err := s.Close(b.Context()); err != nil {
		b.Fatal(err)
	}
	if _, err := audittest.Connect(b, db.URL("")).Exec(b.Context(), "VACUUM ANALYZE"); err != nil {
		b.Fatal(err)
	}
	return key
}

const benchmarkEvents = 200_000

// BenchmarkVerify is verification from the database: events/s is the figure.
func BenchmarkVerify(b *testing.B) {
	db := audittest.Migrated(b)
	key := fill(b, db, benchmarkEvents)
	b.ResetTimer()
	var leaves int64
	for b.Loop() {
		r := verify(b, db, audit.Trust{Keys: []audit.Key{key.Key()}})
		if !r.Sound() {
			b.Fatalf("%+v", r)
		}
		leaves += r.Leaves
	}
	b.ReportMetric(float64(leaves)/b.Elapsed().Seconds(), "events/s")
}

// discard takes a log and does nothing.
type discard struct{}

func (discard) Sealed(*audit.Entry)        {}
func (discard) Checkpoint(audit.Statement) {}
func (discard) Unsealed(*audit.Entry)      {}

// BenchmarkRead is what of BenchmarkVerify is the database and its protocol.
func BenchmarkRead(b *testing.B) {
	db := audittest.Migrated(b)
	fill(b, db, benchmarkEvents)
	b.ResetTimer()
	var leaves int64
	for b.Loop() {
		r, err := Open(b.Context(), db.URL(database.Auditor))
		if err != nil {
			b.Fatal(err)
		}
		if err := r.Walk(b.Context(), discard{}, nil); err != nil {
			b.Fatal(err)
		}
		leaves += r.Leaves()
		r.Close()
	}
	b.ReportMetric(float64(leaves)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkSeal is what one sealer takes into the tree.
func BenchmarkSeal(b *testing.B) {
	db := audittest.Migrated(b)
	l := writertest.Open(b, db.URL(database.Writer), func(c *auditwriter.Config) { c.Log = nil })
	s := sealertest.Open(b, db.URL(database.Writer), l, func(c *auditsealer.Config) { c.Signer, c.Log = audittest.NewKey(b, ""), nil })
	audittest.Seal(b, s)
	b.ResetTimer()
	var sealed int64
	for b.Loop() {
		b.StopTimer()
		var wg sync.WaitGroup
		for n := range 256 {
			wg.Go(func() {
				for range 80 {
					_ = l.Record(context.Background(), audittest.Decision("deny", n))
				}
			})
		}
		wg.Wait()
		before := s.Status().Sealed
		b.StartTimer()
		audittest.Seal(b, s)
		sealed += s.Status().Sealed - before
	}
	b.ReportMetric(float64(sealed)/b.Elapsed().Seconds(), "events/s")
}
