package evidence

import (
	"context"
	"slices"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
)

// walk reads the whole log up to the checkpoint, verifies it, and keeps what the
// report is made of beside decisions.
func (b *builder) walk(ctx context.Context) error {
	lines, err := b.folder.create(pack.EventsFile)
	if err != nil {
		return err
	}
	defer lines.drop()
	if err := b.begin(); err != nil {
		return err
	}
	if err := b.expectConsistency(ctx); err != nil {
		return err
	}
	v, err := audit.NewVerification(audit.Trust{Keys: b.options.Trust.Keys, Notes: b.anchors})
	if err != nil {
		return err
	}
	w := &walker{builder: b, verification: v, lines: lines, writers: map[string]*pack.Writer{}, latest: map[string]string{}, previous: predecessors{}, digests: &pack.SetDigest{}, late: newLateWalk(v)}
	b.facts = pack.Facts{
		Period: b.options.Period, Repositories: slices.Clone(b.options.Repositories), Log: b.checkpoint.Origin,
		Checkpoint: string(b.note), Given: b.options.Size > 0, Kinds: map[string]int64{},
	}
	if err := b.log.Walk(ctx, b.checkpoint.Size, w, func(n int64) { b.options.Progress("events verified", n) }); err != nil {
		return err
	}
	if w.err != nil {
		return w.err
	}
	b.options.Progress("events verified", v.Size())
	if err := b.prover.finish(); err != nil {
		return err
	}
	if err := lines.close(b.events); err != nil {
		return err
	}
	r := v.Report()
	if err := b.verifyForward(ctx, r); err != nil {
		return err
	}
	b.facts.Result = resultOf(r, b.options.Trust.Keys)
	b.facts.Result.Hours, b.facts.Silences = w.hours.hours, silencesOf(r.Cadence, b.facts.Period)
	b.facts.Digest = w.digests.String()
	b.facts.Writers = w.list()
	b.facts.Unsealed = b.outside
	b.facts.Late = w.late.found(b.facts.Period)
	w.dropInvalid(r)
	if err := b.gaps(ctx, w); err != nil {
		return err
	}
	return nil
}
