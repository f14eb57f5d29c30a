package evidence

import (
	"context"
	"fmt"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
)

// choose finds the checkpoint of the pack.
func (b *builder) choose(ctx context.Context) (err error) {
	o := &b.options
	if o.Size > 0 {
		for i := range b.unsealed {
			if r := &b.unsealed[i]; !r.Waits() {
				b.outside += r.InPeriod
			}
		}
		if b.note, err = b.log.Checkpoint(ctx, o.Size); err != nil {
			return err
		}
	} else if b.note, err = b.covering(ctx); err != nil {
		return err
	}
	if b.note == nil {
		return fmt.Errorf("%w: none was signed after it. Where the log is quiet, name the size of one (--size)", ErrNotCovered)
	}
	if b.checkpoint, err = audit.ReadCheckpoint(b.note); err != nil {
		return err
	}
	if o.Size > 0 && b.checkpoint.Size != o.Size {
		return fmt.Errorf("%w: the log has no checkpoint of size %d; the next one has %d", ErrParameters, o.Size, b.checkpoint.Size)
	}
	for _, signed := range o.Trust.Notes {
		// What is larger would be about events that this pack does not speak of.
		if c, err := audit.ReadCheckpoint(signed); err != nil || c.Size <= b.checkpoint.Size {
			b.anchors = append(b.anchors, signed)
		}
	}
	if o.Seed == "" {
		b.population.Sample.Seed = b.checkpoint.Root.String()
	} else {
		b.population.Sample.Seed = o.Seed
	}
	return nil
}

// covering is the first checkpoint that covers every sealed event of the period. It
// depends on these events alone, so that it stays the same while the log grows. What
// is behind a gap is never sealed before the gap is declared: the pack is made
// without it, and reports it.
func (b *builder) covering(ctx context.Context) ([]byte, error) {
	p := b.options.Period
	if p.To.After(b.database.Now) {
		return nil, fmt.Errorf("%w: it ends at %s, and is not over (--size names a checkpoint to stand on nevertheless)", ErrNotCovered, p.To.Format(time.RFC3339))
	}
	c, err := b.log.Cover(ctx, p.From, p.To)
	waiting := int64(0)
	for i := range b.unsealed {
		if r := &b.unsealed[i]; r.Waits() {
			waiting += r.InPeriod
		}
	}
	b.outside = c.Unsealed
	switch {
	case err != nil:
		return nil, err
	case waiting > 0:
		return nil, fmt.Errorf("%w: %d of its %d events are not sealed; wait some seconds, and where that does not help see `sallyport audit verify` (--size names a checkpoint to stand on nevertheless)", ErrNotCovered, waiting, c.Events)
	case c.Last < 0:
		return b.log.CheckpointAfter(ctx, p.To)
	}
	return b.log.Checkpoint(ctx, c.Last+1)
}

func (b *builder) selection() pack.Selection {
	o := b.options
	return pack.Selection{From: o.Period.From, To: o.Period.To, Size: b.checkpoint.Size, Repositories: o.Repositories}
}
