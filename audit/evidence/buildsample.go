package evidence

import (
	"context"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
	"github.com/sallyport/sallyport/audit/evidence/report"
	"github.com/sallyport/sallyport/audit/evidence/ruletext"
	"github.com/sallyport/sallyport/audit/recorded"
)

// makeSampleDetail puts a sample detail together; content and own are as
// [ruletext.Contents] returns them.
func makeSampleDetail(c *pack.Chosen, place int, checkpoint string, p *prover, events *report.Provenance, content, own []byte) (*pack.SampleDetail, error) {
	s, err := recorded.Read(c.Pair.Record)
	if err != nil {
		return nil, err
	}
	d := &pack.SampleDetail{ID: c.ID, Place: place, Rank: c.Rank(), Checkpoint: checkpoint, Revision: s.Revision, Commit: s.Commit, OwnRevision: s.OwnRevision, Rule: s.Rule,
		Activations: events.Of(s)}
	at, err := audit.ReadCheckpoint([]byte(checkpoint))
	if err != nil {
		return nil, err
	}
	prove := func(leaf int64, record []byte) {
		one := pack.Proven{Leaf: leaf, Record: string(record), Hashes: p.proof(leaf)}
		one.Proven = audit.CheckInclusion(one.Hashes, at.Size, at.Root, leaf, audit.Leaf(record)) == nil
		d.Records = append(d.Records, one)
	}
	prove(c.Pair.Leaf, c.Pair.Record)
	if c.Pair.EndLeaf >= 0 {
		prove(c.Pair.EndLeaf, c.Pair.EndRecord)
	}
	d.Rules, d.NoRule = ruletext.Extract(s, content, own)
	return d, nil
}

func (b *builder) sampleDetails(ctx context.Context) error {
	contents := map[string][]byte{}
	for i := range b.population.Sample.Chosen {
		c := &b.population.Sample.Chosen[i]
		s, err := recorded.Read(c.Pair.Record)
		if err != nil {
			return err
		}
		content, own, err := ruletext.Contents(s, func(revision string) ([]byte, error) {
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
		if err := b.folder.write(pack.SamplesFolder+c.ID+".json", -1, func(o *output) error { return pack.WriteJSON(o, d) }); err != nil {
			return err
		}
		if err := b.folder.write(pack.SamplesFolder+c.ID+".html", -1, func(o *output) error { return report.WriteSamplePage(o, d) }); err != nil {
			return err
		}
		b.options.Progress("sample details", int64(i+1))
	}
	return nil
}
