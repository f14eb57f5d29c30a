package postgres

import (
	"context"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/database"
)

// TestJournalAfterFailover: a process is killed while it rests on its journal,
// and the database fails over to a standby that lacks what came before. The next
// process writes the journal; the numbers between are a gap, which is declared.
func TestJournalAfterFailover(t *testing.T) {
	t.Parallel()
	p := startPair(t)
	key, journal := newKey(t, "log.example/a"), t.TempDir()
	spool := func(c *Config) { c.WriteTimeout, c.Journal, c.Spool = 300*time.Millisecond, journal, true }
	l := logFor(t, p.url(database.Writer), spool)
	s := sealerFor(t, p.url(database.Writer), l, withKey(key))
	record(t, l, decision("allow", 1))
	seal(t, s)
	at := ask[string](t, connection(t, p.db.URL("")), `SELECT pg_current_wal_lsn()::text`)
	eventually(t, "the standby has it", func() bool {
		return ask[bool](t, connection(t, p.second().URL("")), `SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn`, at)
	})
	p.standby.Detach(t)
	for n := range 4 {
		record(t, l, decision("allow", n)) // acknowledged, and lost
	}
	p.primary.Kill(t)
	for n := range 3 {
		record(t, l, decision("allow", n)) // in the journal
	}
	dead := l.Writer()
	kill(l)
	p.standby.Promote(t)

	next := logFor(t, p.url(database.Writer), spool)
	s = sealerFor(t, p.url(database.Writer), next, withKey(key))
	seal(t, s)
	if st := s.Status(); st.Blocked != 3 || len(st.Findings) != 1 {
		t.Fatalf("%+v", st)
	}
	g, err := OpenGaps(t.Context(), p.second().URL(""))
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
	seal(t, s)
	shut(t, next)
	seal(t, s)
	r := verify(t, p.second(), audit.Trust{Keys: []audit.Key{key.Key()}})
	if !r.Sound() || r.Missing != 4 || r.Unsealed != 0 || len(r.Gaps) != 1 {
		t.Errorf("%+v", r)
	}
}
