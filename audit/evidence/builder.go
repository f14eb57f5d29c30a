package evidence

import (
	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
	"github.com/sallyport/sallyport/audit/evidence/report"
)

// builder makes one pack, step by step.
type builder struct {
	log        pack.Log
	options    Options
	database   pack.Database
	checkpoint audit.Checkpoint
	note       []byte
	anchors    [][]byte // checkpoints from outside, up to the size of ours
	folder     *folder
	population report.Population
	facts      pack.Facts
	prover     *prover
	spool      *spool
	provenance report.Provenance
	revisions  map[string]string // that decided or were activated in the period, with their commits
	events     int64
	unsealed   []pack.UnsealedRun // of the whole log, as it is now
	outside    int64              // events of the period that are not sealed
	built      Built
}

// begin makes the scratch files that the walk fills.
func (b *builder) begin() error {
	leaves, err := b.folder.scratch()
	if err != nil {
		return err
	}
	b.prover = newProver(b.checkpoint.Size, leaves)
	records, err := b.folder.scratch()
	if err != nil {
		return err
	}
	b.spool = newSpool(records)
	return nil
}

// drop ends the scratch files.
func (b *builder) drop() {
	if b.prover != nil {
		_ = b.prover.hashes.Close()
	}
	if b.spool != nil {
		_ = b.spool.file.Close()
	}
}
