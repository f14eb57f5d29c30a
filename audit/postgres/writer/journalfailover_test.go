package writer

import (
	"context"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/readertest"
	"github.com/sallyport/sallyport/audit/postgres/internal/sealertest"
	auditsealer "github.com/sallyport/sallyport/audit/postgres/sealer"
	"github.com/sallyport/sallyport/internal/database"
)

// TestJournalAfterFailover: a process is killed while it rests on its journal,
// and the database fails over to a standby that lacks what came before. The next
// process writes the journal; the numbers between are a gap, which is declared.
func TestJournalAfterFailover(t *testing.T) {
	t.Parallel()
	p := audittest.StartPair(t)
	key, journal := audittest.NewKey(t, "log.example/a"), t.TempDir()
	spool := func(c *Config) { c.WriteTimeout, c.Journal, c.Spool = 300*time.Millisecond, journal, true }
	l := logFor(t, p.Url(database.Writer), spool)
	s := sealertest.Open(t, p.Url(database.Writer), l, sealertest.WithKey(key))
	audittest.Record(t, l, audittest.Decision("allow", 1))
	audittest.Seal(t, s)
	at := audittest.QueryValue[string](t, audittest.Connect(t, p.Db.URL("")), `SELECT pg_current_wal_lsn()::text`)
	audittest.Eventually(t, "the standby has it", func() bool {
		return audittest.QueryValue[bool](t, audittest.Connect(t, p.Second().URL("")), `SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn`, at)
	})
	p.Standby.Detach(t)
	for n := range 4 {
		audittest.Record(t, l, audittest.Decision("allow", n)) // acknowledged, and lost
	}
	p.Primary.Kill(t)
	for n := range 3 {
		audittest.Record(t, l, audittest.Decision("allow", n)) // in the journal
	}
	dead := l.Writer()
	kill(l)
	p.Standby.Promote(t)

	next := logFor(t, p.Url(database.Writer), spool)
	s = sealertest.Open(t, p.Url(database.Writer), next, sealertest.WithKey(key))
	audittest.Seal(t, s)
	if st := s.Status(); st.Blocked != 3 || len(st.Findings) != 1 {
		t.Fatalf("%+v", st)
	}
	g, err := auditsealer.OpenGaps(t.Context(), p.Second().URL(""))
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	list, err := g.List(t.Context())
	if err != nil || len(list) != 1 || list[0].Writer != dead || list[0].Last-list[0].First+1 != 4 {
		t.Fatalf("%+v, %v", list, err)
	}
	if _, err := g.Declare(context.Background(), key, dead, list[0].First, list[0].Last, "failover to a standby that lagged"); err != nil {
		t.Fatal(err)
	}
	audittest.Seal(t, s)
	audittest.Close(t, next)
	audittest.Seal(t, s)
	r := readertest.Verify(t, p.Second(), audit.Trust{Keys: []audit.Key{key.Key()}})
	if !r.Sound() || r.Missing != 4 || r.Unsealed != 0 || len(r.Gaps) != 1 {
		t.Errorf("%+v", r)
	}
}
