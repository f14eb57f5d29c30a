package postgres

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence"
	"github.com/sallyport/sallyport/internal/database"
)

// TestSignedCheckpointIsNeeded: a login that may seal, and one that may record, add
// checkpoints of a key of their own, the first to cover some events. Proofs and packs
// lead to one that a key of the log signed; without that choice to the stranger's.
func TestSignedCheckpointIsNeeded(t *testing.T) {
	t.Parallel()
	db, key := migrated(t), newKey(t, "log.example/a")
	l := logFor(t, db.URL(database.Writer), nil)
	s := sealerFor(t, db.URL(database.Writer), l, withKey(key))
	for n := range 5 {
		record(t, l, decision("allow", n))
	}
	seal(t, s) // 7 leaves
	conn, thief := connection(t, db.URL(database.Sealer)), newKey(t, "log.example/a")
	from := time.Now()
	record(t, l, audit.Register(thief, time.Now())) // event 8
	for n := range 3 {
		record(t, l, decision("allow", n))
	}
	to := time.Now()
	for _, last := range []int64{7, 8, 8, 9, 11} {
		if err := addCheckpoint(t, conn, l.Writer(), thief, last, nil); err != nil {
			t.Fatal(err)
		}
	}
	record(t, l, decision("allow", 3))
	seal(t, s)
	if err := addCheckpoint(t, conn, l.Writer(), thief, 12, nil); err != nil { // the latest of all
		t.Fatal(err)
	}
	open := func(t *testing.T, chosen bool) *Reader {
		r, err := OpenReader(t.Context(), db.URL(database.Auditor))
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
		built, err := evidence.Build(t.Context(), evidenceOf{r}, dir, evidence.Options{Period: evidence.Period{From: from, To: to}, Sample: 2, Signer: key, Tool: "test"})
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
	// Where no key of the log signed one, the first is taken, and does not hold.
	r = open(t, true)
	r.signers = audit.NewSigningKeys()
	other, ok := audit.ReadRegistration(audit.Register(newKey(t, "log.example/a"), time.Now()).AppendRecord(nil))
	if !ok {
		t.Fatal("not a registration")
	}
	r.signers.Add(other)
	if p, err := r.Prove(t.Context(), l.Writer(), 8, First); err != nil || p.Skipped != 0 {
		t.Errorf("%+v %v", p, err)
	}
}
