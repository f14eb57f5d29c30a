package reader

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence"
	"github.com/sallyport/sallyport/audit/evidence/pack"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/sealertest"
	"github.com/sallyport/sallyport/audit/postgres/internal/writertest"
	"github.com/sallyport/sallyport/internal/database"
)

// TestSignedCheckpointIsNeeded: a login that may seal, and one that may record, add
// checkpoints of a key of their own, the first to cover some events. Proofs and packs
// lead to one that a key of the log signed; without that choice to the stranger's.
func TestSignedCheckpointIsNeeded(t *testing.T) {
	t.Parallel()
	db, key := audittest.Migrated(t), audittest.NewKey(t, "log.example/a")
	l := writertest.Open(t, db.URL(database.Writer), nil)
	s := sealertest.Open(t, db.URL(database.Writer), l, sealertest.WithKey(key))
	for n := range 5 {
		audittest.Record(t, l, audittest.Decision("allow", n))
	}
	audittest.Seal(t, s) // 7 leaves
	conn, thief := audittest.Connect(t, db.URL(database.Sealer)), audittest.NewKey(t, "log.example/a")
	from := time.Now()
	audittest.Record(t, l, audit.Register(thief, time.Now())) // event 8
	for n := range 3 {
		audittest.Record(t, l, audittest.Decision("allow", n))
	}
	to := time.Now()
	for _, last := range []int64{7, 8, 8, 9, 11} {
		if err := audittest.AddCheckpoint(t, conn, l.Writer(), thief, last, nil); err != nil {
			t.Fatal(err)
		}
	}
	audittest.Record(t, l, audittest.Decision("allow", 3))
	audittest.Seal(t, s)
	if err := audittest.AddCheckpoint(t, conn, l.Writer(), thief, 12, nil); err != nil { // the latest of all
		t.Fatal(err)
	}
	open := func(t *testing.T, chosen bool) *Reader {
		r, err := Open(t.Context(), db.URL(database.Auditor))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(r.Close)
		if !chosen { // the control is removed: every checkpoint will do
			r.signers = audit.NewSigningKeys()
		}
		return r
	}
	for _, chosen := range []bool{true, false} {
		r := open(t, chosen)
		for under, skipped := range map[Which]int{First: 4, Latest: 1} {
			p, err := r.Prove(t.Context(), l.Writer(), 8, under)
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = audit.OpenCheckpoint(p.Checkpoint, key.Key())
			if (err == nil) != chosen || chosen && p.Skipped != skipped {
				t.Errorf("chosen %t, latest %t: a proof under a checkpoint of which %v, %d skipped", chosen, under, err, p.Skipped)
			}
		}
		r = open(t, chosen)
		dir := filepath.Join(t.TempDir(), "pack")
		built, err := evidence.Build(t.Context(), evidenceOf{r}, dir, evidence.Options{Period: pack.Period{From: from, To: to}, Sample: 2, Signer: key, Tool: "test"})
		if err != nil {
			t.Fatal(err)
		}
		if built.Manifest.Population != 3 || built.Facts.Result.Sound { // the stranger's checkpoints are findings
			t.Errorf("%+v", built.Facts.Result)
		}
		c, err := evidence.Check(t.Context(), dir, evidence.CheckOptions{Trust: audit.Trust{Keys: []audit.Key{key.Key()}}})
		if err != nil {
			t.Fatal(err)
		}
		if (c.CheckpointBy == key.Key()) != chosen {
			t.Errorf("chosen %t: the pack's checkpoint is signed by %q", chosen, c.CheckpointBy)
		}
	}

	// A key that is trusted from outside comes first, also where it is the stranger's.
	r := open(t, true)
	r.Trust(thief.Key())
	p, err := r.Prove(t.Context(), l.Writer(), 8, First)
	if err != nil || p.Skipped != 0 {
		t.Errorf("%+v %v", p, err)
	}
	// Where no key of the log signed one, the first is used, and does not hold.
	r = open(t, true)
	r.signers = audit.NewSigningKeys()
	other, ok := audit.ReadRegistration(audit.Register(audittest.NewKey(t, "log.example/a"), time.Now()).AppendRecord(nil))
	if !ok {
		t.Fatal("not a registration")
	}
	r.signers.Add(other)
	if p, err := r.Prove(t.Context(), l.Writer(), 8, First); err != nil || p.Skipped != 0 {
		t.Errorf("%+v %v", p, err)
	}
}
