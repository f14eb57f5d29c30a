package sealer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	auditpg "github.com/sallyport/sallyport/audit/postgres"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/readertest"
	"github.com/sallyport/sallyport/audit/postgres/internal/writertest"
	auditwriter "github.com/sallyport/sallyport/audit/postgres/writer"
	"github.com/sallyport/sallyport/internal/database"
)

// sealerFor makes a sealer beside a log. It is not running: tests seal by hand.
func sealerFor(t testing.TB, url string, l audittest.Log, change func(*Config)) *Sealer {
	t.Helper()
	// A log's tests name its own login.
	url = strings.Replace(url, database.Writer, database.Sealer, 1)
	config := Config{URL: url, Writer: l.Writer, Record: l.Record, Log: audittest.Logger(t)}
	if change != nil {
		change(&config)
	}
	s, err := Open(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, p := range s.places {
			p.cancel()
			<-p.ended
		}
		if s.conn != nil {
			_ = s.conn.Close(context.Background())
		}
	})
	return s
}

func withKey(signer *audit.Signer, places ...Publisher) func(*Config) {
	return func(c *Config) { c.Signer, c.Publishers = signer, places }
}

func TestSeal(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	l := writertest.Open(t, db.URL(database.Writer), nil)
	place := &audittest.Shelf{}
	made := 0
	s := sealerFor(t, db.URL(database.Writer), l, func(c *Config) {
		c.Publishers = []Publisher{place}
		c.NewSigner = func() (*audit.Signer, error) { made++; return audittest.NewKey(t, "log.example/a"), nil }
		c.Batch = 40
	})
	audittest.Seal(t, s) // writer_started and the key
	for n := range 100 {
		audittest.Record(t, l, audittest.Decision([]string{"allow", "deny"}[n%2], n))
	}
	if r := readertest.Verify(t, db, audit.Trust{}); r.Leaves != 2 || r.Unsealed != 100 || !r.Sound() {
		t.Errorf("%+v", r)
	}
	audittest.Seal(t, s)
	audittest.Seal(t, s) // nothing to do
	key := s.config.Signer.Key()
	r := readertest.Verify(t, db, audit.Trust{Keys: []audit.Key{key}})
	audittest.CheckReport(t, r, 102, 0)
	if r.Checkpoints != 4 || made != 1 || r.Keys[0] != key || !r.Vouched { // 2, and 100 in forties
		t.Errorf("%+v, %d keys made", r, made)
	}
	// What is published holds against the log, and its root is that of plain SQL.
	audittest.Eventually(t, "the latest checkpoint is published", func() bool { return s.Status().Places[0].Size == 102 })
	r = readertest.Verify(t, db, audit.Trust{Notes: place.All()})
	if !r.Sound() || r.Anchored.Size != 102 {
		t.Errorf("%+v", r)
	}
	conn := audittest.Connect(t, db.URL(database.Auditor))
	if n := audittest.QueryValue[int](t, conn, `SELECT count(*) FROM audit.leaves l JOIN audit.events e USING (writer, writer_sequence) WHERE l.hash = sha256('\x00'::bytea || audit.record(e))`); n != 102 {
		t.Errorf("%d leaves in plain SQL", n)
	}

	// The end is sealed after the log is closed.
	audittest.Close(t, l)
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	r = readertest.Verify(t, db, audit.Trust{Notes: place.All()})
	audittest.CheckReport(t, r, 103, 0)
	if r.Unended != 0 || r.Anchored.Size != 103 {
		t.Errorf("%+v", r)
	}
}

// TestColumnsAreComplete: each column is compared with its field of the record.
func TestColumnsAreComplete(t *testing.T) {
	t.Parallel()
	conn := audittest.Connect(t, audittest.Migrated(t).URL(""))
	known := map[string]bool{"record": true, "record_rest": true}
	for _, c := range auditpg.RecordColumns {
		known[c.Name] = true
	}
	for _, name := range audittest.QueryStrings(t, conn, `SELECT attname::text FROM pg_attribute WHERE attrelid = 'audit.events'::regclass AND attnum > 0 AND NOT attisdropped`) {
		if !known[name] {
			t.Errorf("column %s is not compared with the record", name)
		}
		delete(known, name)
	}
	for name := range known {
		t.Errorf("there is no column %s", name)
	}
}

// Every sort of event is read back as its record states, odd ones included.
func TestColumnsAgree(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	l := writertest.Open(t, db.URL(database.Writer), nil)
	s := sealerFor(t, db.URL(database.Writer), l, withKey(audittest.NewKey(t, "")))
	odd := audittest.Decision("deny", 1)
	odd.Host, odd.Path, odd.Rules, odd.Message = "\x00\"\\\u202e", "/"+string(bytes.Repeat([]byte{'x'}, 5000)), []string{`a"b`, `{c,d}`, "NULL", ""}, `"`
	closing := &audit.Event{Time: time.Now(), Kind: audit.KindTunnelClosed, DecisionID: odd.DecisionID, BytesSent: 1 << 40, Duration: 90 * time.Minute, CloseReason: "finished", UpstreamStatus: 200}
	early := &audit.Event{Time: time.Unix(0, 0), Kind: audit.KindAdmin, Port: 65535}
	for _, e := range []*audit.Event{odd, closing, early, audittest.Decision("allow", 2)} {
		audittest.Record(t, l, e)
	}
	audittest.Seal(t, s)
	audittest.CheckReport(t, readertest.Verify(t, db, audit.Trust{}), 6, 0)
	audittest.Record(t, l, audittest.Decision("allow", 3))
	audittest.CheckReport(t, readertest.Verify(t, db, audit.Trust{}), 6, 1)
}

// Two instances seal one log in turn, and each continues where the other was.
func TestSealInTurn(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	url := db.URL(database.Writer)
	key := audittest.NewKey(t, "")
	a, b := writertest.Open(t, url, nil), writertest.Open(t, url, nil)
	sa, sb := sealerFor(t, url, a, withKey(key)), sealerFor(t, url, b, withKey(key))
	for n := range 30 {
		audittest.Record(t, a, audittest.Decision("allow", n))
		audittest.Record(t, b, audittest.Decision("deny", n))
		audittest.Seal(t, []*Sealer{sa, sb}[n%2])
	}
	audittest.CheckReport(t, readertest.Verify(t, db, audit.Trust{Keys: []audit.Key{key.Key()}}), 63, 0)
	// At the same time, too.
	var wg sync.WaitGroup
	for i, s := range []*Sealer{sa, sb} {
		wg.Go(func() {
			for n := range 30 {
				audittest.Record(t, []*auditwriter.Log{a, b}[i], audittest.Decision("allow", n))
				if err := s.Seal(context.Background()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	audittest.Seal(t, sa)
	audittest.CheckReport(t, readertest.Verify(t, db, audit.Trust{}), 123, 0)
}

// An instance without the log's key records, and does not seal.
func TestSealNeedsTheKey(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	url := db.URL(database.Writer)
	l := writertest.Open(t, url, nil)
	first := audittest.NewKey(t, "log.example/a")
	audittest.Seal(t, sealerFor(t, url, l, withKey(first)))
	audittest.Record(t, l, audittest.Decision("allow", 1))
	for name, change := range map[string]func(*Config){
		"none":    nil,
		"another": withKey(audittest.NewKey(t, "log.example/a")),
		"would make one": func(c *Config) {
			c.NewSigner = func() (*audit.Signer, error) { t.Error("a second key is made"); return nil, errors.New("no") }
		},
	} {
		s := sealerFor(t, url, l, change)
		if err := s.Seal(t.Context()); !errors.Is(err, ErrNoKey) {
			t.Errorf("%s: %v", name, err)
		}
		if st := s.Status(); !errors.Is(st.Err, ErrNoKey) || st.UnsealedSince.IsZero() {
			t.Errorf("%s: %+v", name, st)
		}
	}
	audittest.CheckReport(t, readertest.Verify(t, db, audit.Trust{}), 2, 1)
}

// A key hands over to the next inside the log; no other event does.
func TestSealRotates(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	url := db.URL(database.Writer)
	l := writertest.Open(t, url, nil)
	first := audittest.NewKey(t, "log.example/a")
	second, thief := audittest.NewKey(t, "log.example/a"), audittest.NewKey(t, "log.example/a")
	sFirst, sSecond, sThief := sealerFor(t, url, l, withKey(first)), sealerFor(t, url, l, withKey(second)), sealerFor(t, url, l, withKey(thief))
	audittest.Seal(t, sFirst)

	// Who may write to the log may name a key; the holder of the real one seals
	// that as an event like any other.
	audittest.Record(t, l, audit.Register(thief, time.Now()))
	forged, err := thief.HandOver(second, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	audittest.Record(t, l, forged)
	audittest.Seal(t, sFirst)
	for _, s := range []*Sealer{sThief, sSecond} {
		if err := s.Seal(t.Context()); !errors.Is(err, ErrNoKey) {
			t.Errorf("sealed with a key that nobody handed over to: %v", err)
		}
	}

	handover, err := first.HandOver(second, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	audittest.Record(t, l, audittest.Decision("allow", 1))
	audittest.Record(t, l, handover)
	audittest.Record(t, l, audittest.Decision("allow", 2))
	if err := sSecond.Seal(t.Context()); !errors.Is(err, ErrNoKey) {
		t.Errorf("the next key signs before its turn: %v", err)
	}
	if err := sFirst.Seal(t.Context()); !errors.Is(err, ErrNoKey) { // up to the handing over, and no further
		t.Errorf("the old key signs on: %v", err)
	}
	audittest.CheckReport(t, readertest.Verify(t, db, audit.Trust{}), 6, 1)
	audittest.Seal(t, sSecond)
	for _, keys := range [][]audit.Key{{first.Key()}, {second.Key()}, nil} {
		r := readertest.Verify(t, db, audit.Trust{Keys: keys})
		audittest.CheckReport(t, r, 7, 0)
		if len(r.Keys) != 2 || r.Vouched != (keys != nil) {
			t.Errorf("%+v", r)
		}
	}
	if r := readertest.Verify(t, db, audit.Trust{Keys: []audit.Key{thief.Key()}}); r.Sound() {
		t.Error("the log is the thief's")
	}
}

// A key that is lost is replaced by one that an operator put in its place; who
// verifies needs that key.
func TestSealAfterALostKey(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	url := db.URL(database.Writer)
	l := writertest.Open(t, url, nil)
	audittest.Seal(t, sealerFor(t, url, l, withKey(audittest.NewKey(t, "log.example/a"))))
	next := audittest.NewKey(t, "log.example/a")
	audittest.Record(t, l, audit.Register(next, time.Now()))
	s := sealerFor(t, url, l, withKey(next))
	audittest.Seal(t, s)
	audittest.Record(t, l, audittest.Decision("allow", 1))
	audittest.Seal(t, s)
	if r := readertest.Verify(t, db, audit.Trust{}); r.Counts[audit.DamageKey] == 0 {
		t.Errorf("%+v", r)
	}
	audittest.CheckReport(t, readertest.Verify(t, db, audit.Trust{Keys: []audit.Key{next.Key()}}), 4, 0)
}

// TestRestoredBackup: the sealer does not extend a log that is shorter than what
// was published. Without what was published it would.
func TestRestoredBackup(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	url := db.URL(database.Writer)
	l := writertest.Open(t, url, nil)
	key, place := audittest.NewKey(t, ""), &audittest.Shelf{}
	s := sealerFor(t, url, l, withKey(key, place))
	audittest.Seal(t, s)
	audittest.Record(t, l, audittest.Decision("allow", 1))
	audittest.Seal(t, s)
	audittest.Eventually(t, "it is published", func() bool { return s.Status().Places[0].Size == 3 })
	published := audit.LatestCheckpoint(place.All())

	fallBack(t, db, 2)
	for name, s := range map[string]*Sealer{"running": s, "started again": sealerFor(t, url, l, withKey(key, place))} {
		if err := s.Seal(t.Context()); !errors.Is(err, ErrBehind) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if r := readertest.Verify(t, db, audit.Trust{Notes: [][]byte{published}}); r.Counts[audit.DamageShort] == 0 {
		t.Errorf("%+v", r)
	}
	// The log is forged up to the same size and further.
	blind, other := sealerFor(t, url, l, withKey(key)), writertest.Open(t, url, nil)
	for n := range 3 {
		audittest.Record(t, other, audittest.Decision("deny", n))
	}
	audittest.Seal(t, blind)
	if err := sealerFor(t, url, l, withKey(key, place)).Seal(t.Context()); !errors.Is(err, ErrForked) {
		t.Errorf("forked: %v", err)
	}
	foreign := &audittest.Shelf{}
	elsewhere := audittest.NewKey(t, "log.example/other")
	note, err := elsewhere.Sign(audit.Checkpoint{Size: 1, Root: audit.Hash{1}, Time: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	foreign.Notes = [][]byte{note}
	if err := sealerFor(t, url, l, withKey(key, foreign)).Seal(t.Context()); !errors.Is(err, ErrForked) {
		t.Errorf("the place of another log: %v", err)
	}
}

// rewind takes the sealed log back to a size, as an older backup would have it.
func rewind(t testing.TB, admin *pgx.Conn, size int) {
	t.Helper()
	if _, err := admin.Exec(t.Context(), fmt.Sprintf(`SET session_replication_role = replica;
		ALTER TABLE audit.leaves DISABLE TRIGGER ALL; ALTER TABLE audit.checkpoints DISABLE TRIGGER ALL;
		DELETE FROM audit.leaves WHERE index >= %d; DELETE FROM audit.checkpoints WHERE size > %[1]d;
		ALTER TABLE audit.leaves ENABLE ALWAYS TRIGGER refuse_change; ALTER TABLE audit.checkpoints ENABLE ALWAYS TRIGGER refuse_change;
		RESET session_replication_role`, size)); err != nil {
		t.Fatal(err)
	}
}

// What does not hold together is not gone on from.
func TestSealerRefusesDamage(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]string{
		"a leaf too many":   `INSERT INTO audit.leaves (index, writer, writer_sequence, hash) VALUES (2, 'x', 1, decode(repeat('00', 32), 'hex'))`,
		"another frontier":  `ALTER TABLE audit.checkpoints DISABLE TRIGGER ALL; UPDATE audit.checkpoints SET frontier = decode(repeat('00', 32), 'hex')`,
		"another root":      `ALTER TABLE audit.checkpoints DISABLE TRIGGER ALL; UPDATE audit.checkpoints SET root = decode(repeat('00', 32), 'hex')`,
		"a leaf taken away": `ALTER TABLE audit.leaves DISABLE TRIGGER ALL; DELETE FROM audit.leaves WHERE index = 1`,
	} {
		db := audittest.Migrated(t)
		l := writertest.Open(t, db.URL(database.Writer), nil)
		s := sealerFor(t, db.URL(database.Writer), l, withKey(audittest.NewKey(t, "")))
		audittest.Seal(t, s)
		if _, err := audittest.Connect(t, db.URL("")).Exec(t.Context(), damage); err != nil {
			t.Fatal(err)
		}
		audittest.Record(t, l, audittest.Decision("allow", 1))
		if err := s.Seal(t.Context()); !errors.Is(err, auditpg.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
		if r := readertest.Verify(t, db, audit.Trust{}); r.Sound() {
			t.Errorf("%s: verify found nothing", name)
		}
	}
}

// A number that is missing, or there twice, ends what can be sealed of that
// writer, and of no other.
func TestSealStopsAtAGap(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	url := db.URL(database.Writer)
	l := writertest.Open(t, url, nil)
	s := sealerFor(t, url, l, withKey(audittest.NewKey(t, "")))
	conn := audittest.Connect(t, db.URL(""))
	add := `INSERT INTO audit.events (time, kind, writer, writer_sequence, record) VALUES (now() + $3, $1, 'other', $2, '{}')`
	for _, e := range []struct {
		kind string
		n    int
	}{{"writer_started", 1}, {"admin", 2}, {"admin", 4}} {
		if _, err := conn.Exec(t.Context(), add, e.kind, e.n, "0 s"); err != nil {
			t.Fatal(err)
		}
	}
	audittest.Seal(t, s)
	audittest.Record(t, l, audittest.Decision("allow", 1))
	audittest.Seal(t, s)
	sealedTo := func() int64 {
		return audittest.QueryValue[int64](t, conn, `SELECT max(writer_sequence) FROM audit.leaves WHERE writer = 'other'`)
	}
	if st := s.Status(); len(st.Findings) != 1 || sealedTo() != 2 || st.Size != 5 {
		t.Errorf("%+v, up to %d", st, sealedTo())
	}
	for _, d := range []string{"0 s", "1 s"} {
		if _, err := conn.Exec(t.Context(), add, "admin", 3, d); err != nil {
			t.Fatal(err)
		}
	}
	audittest.Seal(t, s)
	if st := s.Status(); len(st.Findings) != 1 || sealedTo() != 2 {
		t.Errorf("%+v, up to %d", st, sealedTo())
	}
}

// A place that takes nothing keeps no caller waiting, and has the newest when it is
// back.
func TestPublishLater(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	l := writertest.Open(t, db.URL(database.Writer), nil)
	broken, good := &audittest.Shelf{Failed: errors.New("full")}, &audittest.Shelf{}
	s := sealerFor(t, db.URL(database.Writer), l, withKey(audittest.NewKey(t, ""), broken, good))
	for n := range 5 {
		audittest.Record(t, l, audittest.Decision("allow", n))
		audittest.Seal(t, s)
	}
	audittest.Eventually(t, "the good place has all", func() bool { return s.Status().Places[1].Size == 7 })
	audittest.Eventually(t, "the failure shows", func() bool { return s.Status().Places[0].Err != nil })
	broken.Mu.Lock()
	broken.Failed = nil
	broken.Mu.Unlock()
	audittest.Eventually(t, "the place has the newest", func() bool { st := s.Status().Places[0]; return st.Size == 7 && st.Err == nil })
}

// TestFirstKeyIsRegisteredOnce: an event in the journal is recorded and not in the
// database yet. The sealer waits for it, and does not record its key again.
func TestFirstKeyIsRegisteredOnce(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	url := db.URL(database.Writer)
	l := writertest.Open(t, url, nil)
	defer audittest.Close(t, l)
	var journal []*audit.Event
	now := time.Now()
	s := sealerFor(t, url, l, func(c *Config) {
		c.Signer = audittest.NewKey(t, "")
		c.Record = func(_ context.Context, e *audit.Event) error {
			journal = append(journal, e)
			return nil
		}
	})
	s.now = func() time.Time { return now }
	for range 3 {
		if err := s.Seal(t.Context()); !errors.Is(err, errKeyNotInDatabase) {
			t.Fatalf("sealed: %v", err)
		}
	}
	if len(journal) != 1 {
		t.Fatalf("recorded %d times", len(journal))
	}
	now = now.Add(2 * registrationRetry) // lost with the database that had it
	if err := s.Seal(t.Context()); !errors.Is(err, errKeyNotInDatabase) || len(journal) != 2 {
		t.Fatalf("recorded %d times: %v", len(journal), err)
	}
	if err := l.Record(t.Context(), journal[0]); err != nil {
		t.Fatal(err)
	}
	if err := s.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
}
