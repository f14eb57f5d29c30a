package postgres

import (
	"errors"
	"testing"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/database"
)

// Every sealed event has a proof that holds against the first signed checkpoint that
// covers it, one against the latest, and none against anything else; one that is not
// sealed has none.
func TestProve(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	l := logFor(t, db.URL(database.Writer), nil)
	key := newKey(t, "")
	s := sealerFor(t, db.URL(database.Writer), l, withKey(key))
	for n := range 20 {
		record(t, l, decision("allow", n))
		if n%6 == 0 {
			seal(t, s)
		}
	}
	seal(t, s)
	record(t, l, decision("allow", 20))
	r, err := OpenReader(t.Context(), db.URL(database.Auditor))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	conn := connection(t, db.URL(database.Auditor))
	for n := range int64(22) {
		for under, want := range map[Which]string{First: `SELECT min(size) FROM audit.checkpoints WHERE size > $1`, Latest: `SELECT max(size) FROM audit.checkpoints WHERE size > $1`} {
			p, err := r.Prove(t.Context(), l.Writer(), n+1, under)
			if err != nil {
				t.Fatal(err)
			}
			c, _, err := audit.OpenCheckpoint(p.Checkpoint, key.Key())
			if err != nil || c.Size != ask[int64](t, conn, want, p.Index) {
				t.Fatalf("%+v %v", c, err)
			}
			record := ask[[]byte](t, conn, `SELECT audit.record(e) FROM audit.events e WHERE writer_sequence = $1`, n+1)
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
// frontiers of other checkpoints stand for the leaves, which nobody reads.
func TestLatestProofReadsFewLeaves(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	l := logFor(t, db.URL(database.Writer), nil)
	key := newKey(t, "")
	s := sealerFor(t, db.URL(database.Writer), l, withKey(key))
	seal(t, s)
	for n := range 20 {
		record(t, l, decision("allow", n))
		seal(t, s)
	}
	owner := connection(t, db.URL(""))
	if _, err := owner.Exec(t.Context(), `ALTER TABLE audit.leaves DISABLE TRIGGER USER; DELETE FROM audit.leaves WHERE index IN (2, 4, 5, 6) OR index BETWEEN 8 AND 14`); err != nil {
		t.Fatal(err)
	}
	r, err := OpenReader(t.Context(), db.URL(database.Auditor))
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
	again, err := OpenReader(t.Context(), db.URL(database.Auditor))
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if _, err := again.Prove(t.Context(), l.Writer(), 1, Latest); !errors.Is(err, ErrDamaged) {
		t.Errorf("without checkpoints: %v", err)
	}
}
