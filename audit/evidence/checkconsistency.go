package evidence

import (
	"bufio"
	"bytes"
	"errors"
	"io/fs"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
)

// consistency reads the proofs: each has to hold, and to be about the pack's
// checkpoint.
func (c *checker) consistency() error {
	text, err := readFile(c.root, pack.ConsistencyFile, pack.MaxConsistency)
	if errors.Is(err, fs.ErrNotExist) {
		return wrong("%s: it is missing", pack.ConsistencyFile)
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
			return wrong("%s: line %d: %v", pack.ConsistencyFile, n, err)
		}
		other, ok := c.about(p)
		switch {
		case !ok:
			return wrong("%s: line %d: it is not about the pack's checkpoint", pack.ConsistencyFile, n)
		case other.Size <= last:
			return wrong("%s: line %d is out of order", pack.ConsistencyFile, n)
		}
		if err := p.Check(); err != nil {
			return wrong("%s: line %d: %v", pack.ConsistencyFile, n, err)
		}
		c.proofs[other.Size], last = p, other.Size
	}
	if err := lines.Err(); err != nil {
		return wrong("%s: %v", pack.ConsistencyFile, err)
	}
	return nil
}

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
