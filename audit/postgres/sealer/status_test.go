package sealer

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	auditpg "github.com/sallyport/sallyport/audit/postgres"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/writertest"
	auditwriter "github.com/sallyport/sallyport/audit/postgres/writer"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
)

// TestFailingSealingShows: whatever keeps the sealer from sealing, its status has
// the reason and that events wait, and no success.
func TestFailingSealingShows(t *testing.T) {
	t.Parallel()
	const deleteLeaf = `ALTER TABLE audit.leaves DISABLE TRIGGER ALL; DELETE FROM audit.leaves WHERE index = 2`
	for reason, fail := range map[string]func(*testing.T, *sealedLog){
		"no_key":  func(t *testing.T, f *sealedLog) { f.sealer.config.Signer = audittest.NewKey(t, "") },
		"behind":  func(t *testing.T, f *sealedLog) { rewind(t, audittest.Connect(t, f.db.URL("")), 2) },
		"damaged": func(t *testing.T, f *sealedLog) { execute(t, f.db, deleteLeaf) },
		"forked": func(t *testing.T, f *sealedLog) {
			f.reopen(t, withKey(f.key, &audittest.Shelf{Notes: [][]byte{foreignNote(t)}}))
		},
		"no_progress": func(t *testing.T, f *sealedLog) { f.holdLock(t) },
		"no_privilege": func(t *testing.T, f *sealedLog) {
			f.reopen(t, func(c *Config) { c.URL = f.db.URL(database.Writer) })
		},
		"database": func(t *testing.T, f *sealedLog) { execute(t, f.db, `ALTER TABLE audit.checkpoints RENAME TO moved`) },
	} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			f := newSealedLog(t)
			before := f.sealer.Status()
			if before.Reason() != "" || before.LastSuccess.IsZero() || !before.UnsealedSince.IsZero() {
				t.Fatalf("a healthy sealer: %+v", before)
			}
			fail(t, f)
			audittest.Record(t, f.log, audittest.Decision("allow", 2))
			audittest.Eventually(t, "a pass fails", func() bool { return f.sealer.Seal(t.Context()) != nil })
			st := f.sealer.Status()
			if st.Reason() != reason || st.UnsealedSince.IsZero() {
				t.Errorf("reason %q, unsealed since %v, want %q and a time: %v", st.Reason(), st.UnsealedSince, reason, st.Err)
			}
			if !f.reopened && st.LastSuccess != before.LastSuccess {
				t.Errorf("a pass that failed counts as a success: %v", st.LastSuccess)
			}
		})
	}
}

// TestUnsealedEventsOfAnUnavailableDatabase: what cannot be determined counts as
// waiting.
func TestUnsealedEventsOfAnUnavailableDatabase(t *testing.T) {
	t.Parallel()
	f := newSealedLog(t)
	f.reopen(t, func(c *Config) {
		c.URL = "postgresql://sallyport_writer@127.0.0.1:1/none?connect_timeout=1"
	})
	if err := f.sealer.Seal(t.Context()); err == nil {
		t.Fatal("sealed without a database")
	}
	if st := f.sealer.Status(); st.Reason() != "database" || st.UnsealedSince.IsZero() || !st.LastSuccess.IsZero() {
		t.Errorf("%+v", st)
	}
}

// TestEverySealFailureHasAReason: no error of sealing is without a reason.
func TestEverySealFailureHasAReason(t *testing.T) {
	t.Parallel()
	known := map[string]bool{"": true}
	for _, reason := range Failures() {
		if known[reason] {
			t.Errorf("reason %q is there twice, or empty", reason)
		}
		known[reason] = true
	}
	for _, err := range []error{ErrNoKey, ErrMayNotSeal, ErrBehind, ErrForked, auditpg.ErrDamaged, ErrNoProgress, ErrMayNotSeal, t.Context().Err(), pgx.ErrNoRows} {
		if reason := (Status{Err: err}).Reason(); !known[reason] || (reason == "") != (err == nil) {
			t.Errorf("%v has the reason %q", err, reason)
		}
	}
}

// sealedLog is a log of three sealed events with its sealer, which is not running.
type sealedLog struct {
	db       *pgtest.DB
	log      *auditwriter.Log
	key      *audit.Signer
	sealer   *Sealer
	reopened bool
}

func newSealedLog(t *testing.T) *sealedLog {
	t.Helper()
	db := audittest.Migrated(t)
	f := &sealedLog{db: db, log: writertest.Open(t, db.URL(database.Writer), nil), key: audittest.NewKey(t, "")}
	f.sealer = sealerFor(t, db.URL(database.Writer), f.log, withKey(f.key, &audittest.Shelf{}))
	audittest.Seal(t, f.sealer)
	audittest.Record(t, f.log, audittest.Decision("allow", 1))
	audittest.Seal(t, f.sealer)
	return f
}

// reopen replaces the sealer, as a restart of its process does.
func (f *sealedLog) reopen(t *testing.T, change func(*Config)) {
	t.Helper()
	f.sealer, f.reopened = sealerFor(t, f.db.URL(database.Writer), f.log, change), true
}

// holdLock holds the sealing lock in another session.
func (f *sealedLog) holdLock(t *testing.T) {
	selfish := audittest.Connect(t, f.db.URL(database.Sealer))
	if _, err := selfish.Exec(t.Context(), `BEGIN`); err != nil {
		t.Fatal(err)
	}
	if !audittest.QueryValue[bool](t, selfish, `SELECT audit.try_seal_lock()`) {
		t.Fatal("the turn to seal is taken")
	}
	f.sealer.config.PatienceWithOthers = time.Nanosecond
}

func execute(t *testing.T, db *pgtest.DB, sql string) {
	t.Helper()
	if _, err := audittest.Connect(t, db.URL("")).Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

func foreignNote(t *testing.T) []byte {
	t.Helper()
	note, err := audittest.NewKey(t, "log.example/other").Sign(audit.Checkpoint{Size: 1, Root: audit.Hash{1}, Time: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	return note
}
