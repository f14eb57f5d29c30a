package evidence

import (
	"crypto/sha256"
	"slices"

	"github.com/sallyport/sallyport/audit/evidence/pack"
)

// manifest encodes the manifest of the files that are listed, and sets what was built.
func (b *builder) manifest() ([]byte, error) {
	o := b.options
	m := &pack.Manifest{
		Format: pack.FormatVersion, Title: "Evidence of egress control", Time: b.checkpoint.Time.UTC(), TimeZone: "UTC", Tool: o.Tool,
		Parameters: pack.Parameters{
			Period: o.Period, Repositories: o.Repositories, Size: o.Size, Sample: o.Sample,
			Seed: b.population.Sample.Seed, SeedGiven: o.Seed != "", Keys: o.Trust.Keys, Outside: len(b.anchors),
		},
		Database: b.database, Checkpoint: string(b.note), Sound: b.facts.Result.Sound,
		Population: b.population.Count, Probes: b.population.Probes, Events: b.events, Sample: b.population.Sample.IDs(),
		Queries: b.queries(), Files: b.folder.listed(),
	}
	m.Signature = "none: made with --unsigned, so that its origin is unknown"
	if o.Signer != nil {
		m.Signature = string(o.Signer.Key())
	}
	text, err := m.Encode(o.Signer)
	b.built = Built{Manifest: m, Digest: sha256.Sum256(text), Facts: &b.facts}
	return text, err
}

// queries are the statements, with the rows that they gave where that is known.
func (b *builder) queries() []pack.Query {
	list := slices.Clone(b.log.Queries())
	for i := range list {
		switch list[i].Name {
		case pack.QueryDecisions:
			list[i].Rows = b.population.Count
		case pack.QueryLeaves:
			list[i].Rows = b.checkpoint.Size
		}
	}
	return list
}
