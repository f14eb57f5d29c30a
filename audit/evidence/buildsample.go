package evidence

import (
	"context"

	"github.com/sallyport/sallyport/audit"
)

// makeSampleDetail puts a sample detail together; content and own are as contentsOf returns them.
func makeSampleDetail(c *chosen, place int, checkpoint string, p *prover, events *provenance, content, own []byte) (*SampleDetail, error) {
	s, err := read(c.pair.Record)
	if err != nil {
		return nil, err
	}
	d := &SampleDetail{ID: c.id, Place: place, Rank: c.Rank(), Checkpoint: checkpoint, Revision: s.Revision, Commit: s.Commit, OwnRevision: s.OwnRevision, Rule: s.Rule,
		Activations: events.of(s)}
	at, err := audit.ReadCheckpoint([]byte(checkpoint))
	if err != nil {
		return nil, err
	}
	prove := func(leaf int64, record []byte) {
		one := Proven{Leaf: leaf, Record: string(record), Hashes: p.proof(leaf)}
		one.Proven = audit.CheckInclusion(one.Hashes, at.Size, at.Root, leaf, audit.Leaf(record)) == nil
		d.Records = append(d.Records, one)
	}
	prove(c.pair.Leaf, c.pair.Record)
	if c.pair.EndLeaf >= 0 {
		prove(c.pair.EndLeaf, c.pair.EndRecord)
	}
	d.Rules, d.NoRule = quote(s, content, own)
	return d, nil
}

func (b *builder) sampleDetails(ctx context.Context) error {
	contents := map[string][]byte{}
	for i := range b.population.sample.chosen {
		c := &b.population.sample.chosen[i]
		s, err := read(c.pair.Record)
		if err != nil {
			return err
		}
		content, own, err := contentsOf(s, func(revision string) ([]byte, error) {
			content, known := contents[revision]
			if known {
				return content, nil
			}
			content, err := b.log.Policy(ctx, revision)
			if len(contents) > 1 {
				clear(contents) // two at a time: the neighbors mostly have the same
			}
			contents[revision] = content
			return content, err
		})
		if err != nil {
			return err
		}
		d, err := makeSampleDetail(c, i, string(b.note), b.prover, &b.provenance, content, own)
		if err != nil {
			return err
		}
		if err := b.folder.write(samplesFolder+c.id+".json", -1, func(o *output) error { return writeJSON(o, d) }); err != nil {
			return err
		}
		if err := b.folder.write(samplesFolder+c.id+".html", -1, func(o *output) error { return d.writePage(o) }); err != nil {
			return err
		}
		b.options.Progress("sample details", int64(i+1))
	}
	return nil
}
