package reader

import (
	"errors"
	"testing"

	"github.com/sallyport/sallyport/audit"
	auditpg "github.com/sallyport/sallyport/audit/postgres"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/sealertest"
	"github.com/sallyport/sallyport/audit/postgres/internal/writertest"
	"github.com/sallyport/sallyport/internal/database"
)

// Every sealed event has a proof that holds against the first signed checkpoint that
// covers it, one against the latest, and none against anything else; one that is not
// sealed has none.
func TestProve(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	l := writertest.Open(t, db.URL(database.Writer), nil)
	key := audittest.NewKey(t, "")
	s := sealertest.Open(t, db.URL(database.Writer), l, sealertest.WithKey(key))
	for n := range 20 {
		audittest.Record(t, l, audittest.Decision("allow", n))
		if n%6 == 0 {
			audittest.Seal(t, s)
		}
	}
	audittest.Seal(t, s)
	audittest.Record(t, l, audittest.Decision("allow", 20))
	r, err := Open(t.Context(), db.URL(database.Auditor))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	conn := audittest.Connect(t, db.URL(database.Auditor))
	for n := range int64(22) {
		for under, want := range map[Which]string{First: `SELECT min(size) FROM audit.checkpoints WHERE size > $1`, Latest: `SELECT max(size) FROM audit.checkpoints WHERE size > $1`} {
			p, err := r.Prove(t.Context(), l.Writer(), n+1, under)
			if err != nil {
				t.Fatal(err)
			}
			c, _, err := audit.OpenCheckpoint(p.Checkpoint, key.Key())
			if err != nil || c.Size != audittest.QueryValue[int64](t, conn, want, p.Index) {
				t.Fatalf("%+v %v", c, err)
			}
			record := audittest.QueryValue[[]byte](t, conn, `SELECT audit.record(e) FROM audit.events e WHERE writer_sequence = $1`, n+1)
			leaf := audit.Hash(audit.Leaf(record))
			if err := audit.CheckInclusion(p.Hashes, c.Size, c.Root, p.Index, leaf); err != nil || leaf != p.Leaf {
				t.Errorf("event %d: %v", n+1, err)
			}
			if audit.CheckInclusion(p.Hashes, c.Size, c.Root, p.Index, audit.Leaf(append(record, ' '))) == nil {
				t.Errorf("event %d: another record is proven too", n+1)
			}
		}
	}
	for _, n := range []int64{23, 1000} {
		if _, err := r.Prove(t.Context(), l.Writer(), n, First); !errors.Is(err, ErrNotSealed) {
			t.Errorf("event %d: %v", n, err)
		}
	}
}

// TestLatestProofReadsFewLeaves: between the event and the latest checkpoint, the
// frontiers of other checkpoints stand for the leaves, which are not read.
func TestLatestProofReadsFewLeaves(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	l := writertest.Open(t, db.URL(database.Writer), nil)
	key := audittest.NewKey(t, "")
	s := sealertest.Open(t, db.URL(database.Writer), l, sealertest.WithKey(key))
	audittest.Seal(t, s)
	for n := range 20 {
		audittest.Record(t, l, audittest.Decision("allow", n))
		audittest.Seal(t, s)
	}
	owner := audittest.Connect(t, db.URL(""))
	if _, err := owner.Exec(t.Context(), `ALTER TABLE audit.leaves DISABLE TRIGGER USER; DELETE FROM audit.leaves WHERE index IN (2, 4, 5, 6) OR index BETWEEN 8 AND 14`); err != nil {
		t.Fatal(err)
	}
	r, err := Open(t.Context(), db.URL(database.Auditor))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p, err := r.Prove(t.Context(), l.Writer(), 1, Latest)
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := audit.OpenCheckpoint(p.Checkpoint, key.Key())
	if err != nil || audit.CheckInclusion(p.Hashes, c.Size, c.Root, p.Index, p.Leaf) != nil {
		t.Errorf("the proof does not hold under %+v, %v", c, err)
	}
	// Without the other checkpoints it needs the leaves, which are gone.
	if _, err := owner.Exec(t.Context(), `ALTER TABLE audit.checkpoints DISABLE TRIGGER USER; DELETE FROM audit.checkpoints WHERE size < 20`); err != nil {
		t.Fatal(err)
	}
	again, err := Open(t.Context(), db.URL(database.Auditor))
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if _, err := again.Prove(t.Context(), l.Writer(), 1, Latest); !errors.Is(err, auditpg.ErrDamaged) {
		t.Errorf("without checkpoints: %v", err)
	}
}
