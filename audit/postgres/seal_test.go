package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/database"
)

// sealerFor makes a sealer beside a log. It is not running: tests seal by hand.
func sealerFor(t testing.TB, url string, l writerLog, change func(*SealerConfig)) *Sealer {
	t.Helper()
	// A log's tests name its own login.
	url = strings.Replace(url, database.Writer, database.Sealer, 1)
	config := SealerConfig{URL: url, Writer: l.Writer, Record: l.Record, Log: slog.New(slog.NewTextHandler(testWriter{t}, nil))}
	if change != nil {
		change(&config)
	}
	s, err := OpenSealer(config)
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

func withKey(signer *audit.Signer, places ...Publisher) func(*SealerConfig) {
	return func(c *SealerConfig) { c.Signer, c.Publishers = signer, places }
}

func TestSeal(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	l := logFor(t, db.URL(database.Writer), nil)
	place := &shelf{}
	made := 0
	s := sealerFor(t, db.URL(database.Writer), l, func(c *SealerConfig) {
		c.Publishers = []Publisher{place}
		c.NewSigner = func() (*audit.Signer, error) { made++; return newKey(t, "log.example/a"), nil }
		c.Batch = 40
	})
	seal(t, s) // writer_started and the key
	for n := range 100 {
		record(t, l, decision([]string{"allow", "deny"}[n%2], n))
	}
	if r := verify(t, db, audit.Trust{}); r.Leaves != 2 || r.Unsealed != 100 || !r.Sound() {
		t.Errorf("%+v", r)
	}
	seal(t, s)
	seal(t, s) // nothing to do
	key := s.config.Signer.Key()
	r := verify(t, db, audit.Trust{Keys: []audit.Key{key}})
	proven(t, r, 102, 0)
	if r.Checkpoints != 4 || made != 1 || r.Keys[0] != key || !r.Vouched { // 2, and 100 in forties
		t.Errorf("%+v, %d keys made", r, made)
	}
	// What is published holds against the log, and its root is that of plain SQL.
	eventually(t, "the latest checkpoint is published", func() bool { return s.Status().Places[0].Size == 102 })
	r = verify(t, db, audit.Trust{Notes: place.all()})
	if !r.Sound() || r.Anchored.Size != 102 {
		t.Errorf("%+v", r)
	}
	conn := connection(t, db.URL(database.Auditor))
	if n := ask[int](t, conn, `SELECT count(*) FROM audit.leaves l JOIN audit.events e USING (writer, writer_sequence) WHERE l.hash = sha256('\x00'::bytea || audit.record(e))`); n != 102 {
		t.Errorf("%d leaves in plain SQL", n)
	}

	// The end is sealed after the log is closed.
	shut(t, l)
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	r = verify(t, db, audit.Trust{Notes: place.all()})
	proven(t, r, 103, 0)
	if r.Unended != 0 || r.Anchored.Size != 103 {
		t.Errorf("%+v", r)
	}
}

// TestColumnsAreComplete: each column is compared with its field of the record.
func TestColumnsAreComplete(t *testing.T) {
	t.Parallel()
	conn := connection(t, migrated(t).URL(""))
	known := map[string]bool{"record": true, "record_rest": true}
	for _, c := range recordColumns {
		known[c.name] = true
	}
	for _, name := range list(t, conn, `SELECT attname::text FROM pg_attribute WHERE attrelid = 'audit.events'::regclass AND attnum > 0 AND NOT attisdropped`) {
		if !known[name] {
			t.Errorf("column %s is not compared with the record", name)
		}
		delete(known, name)
	}
	for name := range known {
		t.Errorf("there is no column %s", name)
	}
}

// Every sort of event is read back as its record says, odd ones included.
func TestColumnsAgree(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	l := logFor(t, db.URL(database.Writer), nil)
	s := sealerFor(t, db.URL(database.Writer), l, withKey(newKey(t, "")))
	odd := decision("deny", 1)
	odd.Host, odd.Path, odd.Rules, odd.Message = "\x00\"\\\u202e", "/"+string(bytes.Repeat([]byte{'x'}, 5000)), []string{`a"b`, `{c,d}`, "NULL", ""}, `"`
	closing := &audit.Event{Time: time.Now(), Kind: audit.KindTunnelClosed, DecisionID: odd.DecisionID, BytesSent: 1 << 40, Duration: 90 * time.Minute, CloseReason: "finished", UpstreamStatus: 200}
	early := &audit.Event{Time: time.Unix(0, 0), Kind: audit.KindAdmin, Port: 65535}
	for _, e := range []*audit.Event{odd, closing, early, decision("allow", 2)} {
		record(t, l, e)
	}
	seal(t, s)
	proven(t, verify(t, db, audit.Trust{}), 6, 0)
	record(t, l, decision("allow", 3))
	proven(t, verify(t, db, audit.Trust{}), 6, 1)
}

// Two instances seal one log in turn, and each continues where the other was.
func TestSealInTurn(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	url := db.URL(database.Writer)
	key := newKey(t, "")
	a, b := logFor(t, url, nil), logFor(t, url, nil)
	sa, sb := sealerFor(t, url, a, withKey(key)), sealerFor(t, url, b, withKey(key))
	for n := range 30 {
		record(t, a, decision("allow", n))
		record(t, b, decision("deny", n))
		seal(t, []*Sealer{sa, sb}[n%2])
	}
	proven(t, verify(t, db, audit.Trust{Keys: []audit.Key{key.Key()}}), 63, 0)
	// At the same time, too.
	var wg sync.WaitGroup
	for i, s := range []*Sealer{sa, sb} {
		wg.Go(func() {
			for n := range 30 {
				record(t, []*Log{a, b}[i], decision("allow", n))
				if err := s.Seal(context.Background()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	seal(t, sa)
	proven(t, verify(t, db, audit.Trust{}), 123, 0)
}

// An instance without the log's key records, and does not seal.
func TestSealNeedsTheKey(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	url := db.URL(database.Writer)
	l := logFor(t, url, nil)
	first := newKey(t, "log.example/a")
	seal(t, sealerFor(t, url, l, withKey(first)))
	record(t, l, decision("allow", 1))
	for name, change := range map[string]func(*SealerConfig){
		"none":    nil,
		"another": withKey(newKey(t, "log.example/a")),
		"would make one": func(c *SealerConfig) {
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
	proven(t, verify(t, db, audit.Trust{}), 2, 1)
}

// A key hands over to the next inside the log; nobody else's event does.
func TestSealRotates(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	url := db.URL(database.Writer)
	l := logFor(t, url, nil)
	first := newKey(t, "log.example/a")
	second, thief := newKey(t, "log.example/a"), newKey(t, "log.example/a")
	sFirst, sSecond, sThief := sealerFor(t, url, l, withKey(first)), sealerFor(t, url, l, withKey(second)), sealerFor(t, url, l, withKey(thief))
	seal(t, sFirst)

	// Who may write to the log may name a key; the holder of the real one seals
	// that as an event like any other.
	record(t, l, audit.Register(thief, time.Now()))
	forged, err := thief.HandOver(second, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	record(t, l, forged)
	seal(t, sFirst)
	for _, s := range []*Sealer{sThief, sSecond} {
		if err := s.Seal(t.Context()); !errors.Is(err, ErrNoKey) {
			t.Errorf("sealed with a key that nobody handed over to: %v", err)
		}
	}

	handover, err := first.HandOver(second, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	record(t, l, decision("allow", 1))
	record(t, l, handover)
	record(t, l, decision("allow", 2))
	if err := sSecond.Seal(t.Context()); !errors.Is(err, ErrNoKey) {
		t.Errorf("the next key signs before its turn: %v", err)
	}
	if err := sFirst.Seal(t.Context()); !errors.Is(err, ErrNoKey) { // up to the handing over, and no further
		t.Errorf("the old key signs on: %v", err)
	}
	proven(t, verify(t, db, audit.Trust{}), 6, 1)
	seal(t, sSecond)
	for _, keys := range [][]audit.Key{{first.Key()}, {second.Key()}, nil} {
		r := verify(t, db, audit.Trust{Keys: keys})
		proven(t, r, 7, 0)
		if len(r.Keys) != 2 || r.Vouched != (keys != nil) {
			t.Errorf("%+v", r)
		}
	}
	if r := verify(t, db, audit.Trust{Keys: []audit.Key{thief.Key()}}); r.Sound() {
		t.Error("the log is the thief's")
	}
}

// A key that is lost is replaced by one that an operator put in its place; who
// verifies has to be told of it.
func TestSealAfterALostKey(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	url := db.URL(database.Writer)
	l := logFor(t, url, nil)
	seal(t, sealerFor(t, url, l, withKey(newKey(t, "log.example/a"))))
	next := newKey(t, "log.example/a")
	record(t, l, audit.Register(next, time.Now()))
	s := sealerFor(t, url, l, withKey(next))
	seal(t, s)
	record(t, l, decision("allow", 1))
	seal(t, s)
	if r := verify(t, db, audit.Trust{}); r.Counts[audit.DamageKey] == 0 {
		t.Errorf("%+v", r)
	}
	proven(t, verify(t, db, audit.Trust{Keys: []audit.Key{next.Key()}}), 4, 0)
}

// TestRestoredBackup: the sealer does not extend a log that is shorter than what
// was published. Without what was published it would.
func TestRestoredBackup(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	url := db.URL(database.Writer)
	l := logFor(t, url, nil)
	key, place := newKey(t, ""), &shelf{}
	s := sealerFor(t, url, l, withKey(key, place))
	seal(t, s)
	record(t, l, decision("allow", 1))
	seal(t, s)
	eventually(t, "it is published", func() bool { return s.Status().Places[0].Size == 3 })
	published := audit.LatestCheckpoint(place.all())

	fallBack(t, db, 2)
	for name, s := range map[string]*Sealer{"running": s, "started again": sealerFor(t, url, l, withKey(key, place))} {
		if err := s.Seal(t.Context()); !errors.Is(err, ErrBehind) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if r := verify(t, db, audit.Trust{Notes: [][]byte{published}}); r.Counts[audit.DamageShort] == 0 {
		t.Errorf("%+v", r)
	}
	// The log is forged up to the same size and further.
	blind, other := sealerFor(t, url, l, withKey(key)), logFor(t, url, nil)
	for n := range 3 {
		record(t, other, decision("deny", n))
	}
	seal(t, blind)
	if err := sealerFor(t, url, l, withKey(key, place)).Seal(t.Context()); !errors.Is(err, ErrForked) {
		t.Errorf("forked: %v", err)
	}
	foreign := &shelf{}
	elsewhere := newKey(t, "log.example/other")
	note, err := elsewhere.Sign(audit.Checkpoint{Size: 1, Root: audit.Hash{1}, Time: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	foreign.notes = [][]byte{note}
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
		db := migrated(t)
		l := logFor(t, db.URL(database.Writer), nil)
		s := sealerFor(t, db.URL(database.Writer), l, withKey(newKey(t, "")))
		seal(t, s)
		if _, err := connection(t, db.URL("")).Exec(t.Context(), damage); err != nil {
			t.Fatal(err)
		}
		record(t, l, decision("allow", 1))
		if err := s.Seal(t.Context()); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
		if r := verify(t, db, audit.Trust{}); r.Sound() {
			t.Errorf("%s: verify found nothing", name)
		}
	}
}

// A number that is missing, or there twice, ends what can be sealed of that
// writer, and of no other.
func TestSealStopsAtAGap(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	url := db.URL(database.Writer)
	l := logFor(t, url, nil)
	s := sealerFor(t, url, l, withKey(newKey(t, "")))
	conn := connection(t, db.URL(""))
	add := `INSERT INTO audit.events (time, kind, writer, writer_sequence, record) VALUES (now() + $3, $1, 'other', $2, '{}')`
	for _, e := range []struct {
		kind string
		n    int
	}{{"writer_started", 1}, {"admin", 2}, {"admin", 4}} {
		if _, err := conn.Exec(t.Context(), add, e.kind, e.n, "0 s"); err != nil {
			t.Fatal(err)
		}
	}
	seal(t, s)
	record(t, l, decision("allow", 1))
	seal(t, s)
	sealedTo := func() int64 {
		return ask[int64](t, conn, `SELECT max(writer_sequence) FROM audit.leaves WHERE writer = 'other'`)
	}
	if st := s.Status(); len(st.Findings) != 1 || sealedTo() != 2 || st.Size != 5 {
		t.Errorf("%+v, up to %d", st, sealedTo())
	}
	for _, d := range []string{"0 s", "1 s"} {
		if _, err := conn.Exec(t.Context(), add, "admin", 3, d); err != nil {
			t.Fatal(err)
		}
	}
	seal(t, s)
	if st := s.Status(); len(st.Findings) != 1 || sealedTo() != 2 {
		t.Errorf("%+v, up to %d", st, sealedTo())
	}
}

// A place that takes nothing keeps nobody waiting, and has the newest when it is
// back.
func TestPublishLater(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	l := logFor(t, db.URL(database.Writer), nil)
	broken, good := &shelf{failed: errors.New("full")}, &shelf{}
	s := sealerFor(t, db.URL(database.Writer), l, withKey(newKey(t, ""), broken, good))
	for n := range 5 {
		record(t, l, decision("allow", n))
		seal(t, s)
	}
	eventually(t, "the good place has all", func() bool { return s.Status().Places[1].Size == 7 })
	eventually(t, "the failure shows", func() bool { return s.Status().Places[0].Err != nil })
	broken.mu.Lock()
	broken.failed = nil
	broken.mu.Unlock()
	eventually(t, "the place has the newest", func() bool { st := s.Status().Places[0]; return st.Size == 7 && st.Err == nil })
}

// TestFirstKeyIsRegisteredOnce: an event in the journal is recorded and not in the
// database yet. The sealer waits for it, and does not record its key again.
func TestFirstKeyIsRegisteredOnce(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	url := db.URL(database.Writer)
	l := logFor(t, url, nil)
	defer shut(t, l)
	var journal []*audit.Event
	now := time.Now()
	s := sealerFor(t, url, l, func(c *SealerConfig) {
		c.Signer = newKey(t, "")
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
	now = now.Add(2 * registerAgain) // lost with the database that had it
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
