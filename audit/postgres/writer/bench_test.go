package writer

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/sallyport/sallyport/audit"
	auditpg "github.com/sallyport/sallyport/audit/postgres"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
)

// BenchmarkRecord is what a caller waits for, with durability on. events/s is
// the figure; so many callers wait at once.
func BenchmarkRecord(b *testing.B) {
	server := pgtest.Start(b, pgtest.Options{})
	db := server.NewFrom(b, "sallyport", audittest.Migrate)
	for _, callers := range []int{1, 16, 128, 512} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			l := logFor(b, db.URL(database.Writer), func(c *Config) { c.Log = nil })
			events := make([]audit.Event, callers)
			for i := range events {
				events[i] = *audittest.Decision("allow", i)
			}
			var next atomic.Int64
			b.ReportAllocs()
			b.SetParallelism(max(callers/2, 1))
			b.ResetTimer()
			run := func(step func() bool) {
				e := events[next.Add(1)%int64(callers)]
				for step() {
					copied := e
					audittest.Record(b, l, &copied)
				}
			}
			if callers == 1 {
				run(b.Loop)
			} else {
				b.RunParallel(func(pb *testing.PB) { run(pb.Next) })
			}
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(float64(l.Stats().Recorded)/float64(max(l.Stats().Groups, 1)), "events/group")
			audittest.Close(b, l)
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	e := audittest.Decision("allow", 1)
	e.Writer, _ = auditpg.NewWriter(e.Time)
	g := newGroup(e.Writer)
	b.ReportAllocs()
	for b.Loop() {
		e.Normalise()
		g.add(e, nil)
		if g.full() {
			g.reset()
		}
	}
}
