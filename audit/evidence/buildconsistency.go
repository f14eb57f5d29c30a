package evidence

import (
	"context"
	"errors"
	"slices"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
)

// A proof has some 1 to 1.5 KB.
const (
	// maxHourly is how many hours a period may have of which each has a proof; in a
	// longer one each day has one.
	maxHourly = 100 * 24
	// maxExternal is how many of the checkpoints from outside get proofs of their own.
	maxExternal = 1000
)

// expectConsistency makes the prover gather what the proofs consist of: for the last
// checkpoint of each hour of the period, that of each day before it, and those from
// outside. Which these are does not depend on what is sealed later, nor on whether
// checkpoints within an hour were thinned out since.
func (b *builder) expectConsistency(ctx context.Context) error {
	from := b.options.Period.From
	if b.checkpoint.Time.Sub(from).Hours() > maxHourly {
		from = b.checkpoint.Time
	}
	sizes, err := b.log.CheckpointSizes(ctx, b.checkpoint.Time, from)
	if err != nil {
		return err
	}
	var given []int64
	for _, signed := range b.options.Trust.Notes {
		if c, err := audit.ReadCheckpoint(signed); err == nil {
			given = append(given, c.Size)
		}
	}
	given = inRange(given, b.checkpoint.Size)
	for len(given) > maxExternal { // the last of each two
		kept := given[:0]
		for i, size := range given {
			if i%2 == 1 || i == len(given)-1 {
				kept = append(kept, size)
			}
		}
		given = kept
	}
	for _, size := range inRange(append(sizes, given...), b.checkpoint.Size) {
		if err := b.prover.expect(size); err != nil {
			return err
		}
	}
	return nil
}

// inRange returns the sizes of trees that are the beginning of one of a size, each
// once, ascending.
func inRange(sizes []int64, size int64) []int64 {
	sizes = slices.DeleteFunc(slices.Clone(sizes), func(s int64) bool { return s < 1 || s >= size })
	slices.Sort(sizes)
	return slices.Compact(sizes)
}

// consistency writes the proofs, by their other size.
func (b *builder) consistency(ctx context.Context) error {
	proofs := b.prover.consistencies()
	if len(proofs) > 0 && proofs[0].To.Root != b.checkpoint.Root {
		proofs = nil // the log is damaged
	}
	larger, err := b.larger(ctx)
	if err != nil {
		return err
	}
	proofs = append(proofs, larger...)
	return b.folder.write(pack.ConsistencyFile, int64(len(proofs)), func(o *output) error {
		var line []byte
		for _, p := range proofs {
			line = p.AppendLine(line[:0])
			if _, err := o.Write(line); err != nil {
				return err
			}
		}
		return nil
	})
}

// larger proves that the tree of the smallest larger checkpoint from outside extends
// the pack's, if none has the pack's size. The log's leaves
// are read up to there. A file of checkpoints that has grown since gives the same
// proof again, or none.
func (b *builder) larger(ctx context.Context) ([]*audit.Consistency, error) {
	least := int64(0)
	for _, signed := range b.options.Trust.Notes {
		c, err := audit.ReadCheckpoint(signed)
		switch {
		case err != nil || c.Size < b.checkpoint.Size:
		case c.Size == b.checkpoint.Size:
			return nil, nil
		case least == 0 || c.Size < least:
			least = c.Size
		}
	}
	if least == 0 || !b.facts.Result.Sound {
		return nil, nil
	}
	p, err := b.log.Consistency(ctx, b.checkpoint.Size, least)
	switch {
	case errors.Is(err, pack.ErrNoTree): // it is shorter; the verification reports that for a known key
		return nil, nil
	case err != nil:
		return nil, err
	case p.From.Root != b.checkpoint.Root || p.Check() != nil:
		return nil, nil
	}
	return []*audit.Consistency{p}, nil
}
