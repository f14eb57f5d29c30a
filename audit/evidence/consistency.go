package evidence

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io/fs"
	"slices"

	"github.com/sallyport/sallyport/audit"
)

// consistencyFile has proofs that the tree of the pack's checkpoint extends those of
// older checkpoints, and that trees of larger checkpoints from outside extend it. A
// reviewer with another checkpoint can check that it is of the same log.
const consistencyFile = "consistency.jsonl"

// A proof has some 1 to 1.5 KB.
const (
	// maxHourly is how many hours a period may have of which each has a proof; in a
	// longer one each day has one.
	maxHourly = 100 * 24
	// maxGiven is how many of the checkpoints from outside get proofs of their own.
	maxGiven = 1000
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
	for len(given) > maxGiven { // the last of each two
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
	return b.folder.write(consistencyFile, int64(len(proofs)), func(o *output) error {
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
	case errors.Is(err, ErrNoTree): // it is shorter, which the verification says of a known key's
		return nil, nil
	case err != nil:
		return nil, err
	case p.From.Root != b.checkpoint.Root || p.Check() != nil:
		return nil, nil
	}
	return []*audit.Consistency{p}, nil
}

// ErrNoTree is returned, wrapped, where a log does not reach a size.
var ErrNoTree = errors.New("the log has fewer leaves")

// consistency reads the proofs: each has to hold, and to be about the pack's
// checkpoint.
func (c *checker) consistency() error {
	text, err := readFile(c.root, consistencyFile, maxConsistency)
	if errors.Is(err, fs.ErrNotExist) {
		return wrong("%s: it is missing", consistencyFile)
	}
	if err != nil {
		return err
	}
	c.proofs = map[int64]*audit.Consistency{}
	last := int64(0)
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		p, err := audit.ParseConsistency(lines.Bytes())
		if err != nil {
			return wrong("%s: line %d: %v", consistencyFile, n, err)
		}
		other, ok := c.about(p)
		switch {
		case !ok:
			return wrong("%s: line %d: it is not about the pack's checkpoint", consistencyFile, n)
		case other.Size <= last:
			return wrong("%s: line %d is out of order", consistencyFile, n)
		}
		if err := p.Check(); err != nil {
			return wrong("%s: line %d: %v", consistencyFile, n, err)
		}
		c.proofs[other.Size], last = p, other.Size
	}
	if err := lines.Err(); err != nil {
		return wrong("%s: %v", consistencyFile, err)
	}
	return nil
}

const maxConsistency = 64 << 20

// about returns the other head of a proof that is about the pack's checkpoint.
func (c *checker) about(p *audit.Consistency) (audit.TreeHead, bool) {
	own := audit.TreeHead{Size: c.at.Size, Root: c.at.Root}
	switch own {
	case p.From:
		return p.To, true
	case p.To:
		return p.From, true
	}
	return audit.TreeHead{}, false
}

// addProofs adds the proofs that the checker was given in addition to the pack's.
func (c *checker) addProofs() {
	for i, p := range c.options.Proofs {
		other, ok := c.about(p)
		switch {
		case !ok:
			c.warn("proof %d that was given, from size %d to size %d, is not about the pack's checkpoint of size %d: it is not used", i+1, p.From.Size, p.To.Size, c.at.Size)
		case p.Check() != nil:
			c.warn("proof %d that was given, from size %d to size %d, does not hold: it is not used", i+1, p.From.Size, p.To.Size)
		case c.proofs[other.Size] == nil:
			c.proofs[other.Size] = p
		}
	}
}
