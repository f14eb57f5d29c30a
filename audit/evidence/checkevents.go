package evidence

import (
	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
)

func (c *checker) events() error {
	last := int64(-1)
	n, err := c.lines(pack.EventsFile, func(n int64, p *pack.Pair) error {
		if p.Leaf <= last || p.EndLeaf >= 0 {
			return wrong("%s: line %d is out of order", pack.EventsFile, n)
		}
		last = p.Leaf
		s, err := c.counted.Event(p.Leaf, p.Record, c.manifestFacts.Period)
		if err != nil {
			return nil // counted when it was made
		}
		c.path.Add(p.Leaf, p.Record)
		c.count.event(s, p.Leaf, p.Record)
		if s.Kind == string(audit.KindSigningKey) {
			if r, ok := audit.RegistrationOf(p.Record); ok {
				c.named = append(c.named, r)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if n != c.m.Events {
		return wrong("%s: it has %d events, and the manifest has %d", pack.EventsFile, n, c.m.Events)
	}
	return nil
}

// numbers compares missing numbers and late events in the facts with the records and
// with each other. The facts of a damaged log may contradict them.
func (c *checker) numbers() error {
	if !c.m.Sound {
		return nil
	}
	return c.count.check(c.at.Size, c.manifestFacts.Result.Keys)
}
