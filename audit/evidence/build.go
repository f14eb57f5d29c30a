package evidence

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// Build makes a pack in a folder that is not there yet. A log that is damaged makes
// a pack that says so: see Facts. Where it returns an error there is no folder.
func Build(ctx context.Context, log Log, out string, o Options) (_ *Built, err error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	o.Period = Period{o.Period.From.UTC(), o.Period.To.UTC()}
	if o.Progress == nil {
		o.Progress = func(string, int64) {}
	}
	b := &builder{log: log, options: o, revisions: map[string]string{}}
	if b.database, err = log.Database(ctx); err != nil {
		return nil, err
	}
	if b.unsealed, err = log.Unsealed(ctx, o.Period.From, o.Period.To); err != nil {
		return nil, err
	}
	if err := b.choose(ctx); err != nil {
		return nil, err
	}
	if b.folder, err = newFolder(out); err != nil {
		return nil, err
	}
	defer b.folder.abandon()
	defer b.drop()
	for _, step := range []func(context.Context) error{b.walk, b.decisions, b.replay, b.consistency, b.reconciliations, b.exceptions, b.report, b.sampleDetails, b.access, b.manifest} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	if o.Record != nil {
		if err := o.Record(ctx, b.built); err != nil {
			return nil, err
		}
	}
	if err := b.folder.finish(); err != nil {
		return nil, err
	}
	return &b.built, nil
}

// builder makes one pack, step by step.
type builder struct {
	log        Log
	options    Options
	database   Database
	checkpoint audit.Checkpoint
	note       []byte
	anchors    [][]byte // checkpoints from outside, up to the size of ours
	folder     *folder
	population population
	facts      Facts
	prover     *prover
	spool      *spool
	provenance provenance
	revisions  map[string]string // that decided or were activated in the period, with their commits
	events     int64
	unsealed   []UnsealedRun // of the whole log, as it is now
	outside    int64         // events of the period that are not sealed
	built      Built
}

// choose finds the checkpoint that the pack stands on.
func (b *builder) choose(ctx context.Context) (err error) {
	o := &b.options
	if o.Size > 0 {
		for i := range b.unsealed {
			if r := &b.unsealed[i]; !r.waits() {
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
		b.population.sample.seed = b.checkpoint.Root.String()
	} else {
		b.population.sample.seed = o.Seed
	}
	return nil
}

// covering is the first checkpoint that covers every sealed event of the period. It
// depends on these events alone, so that it stays the same while the log grows. What
// is behind a gap is never sealed before the gap is declared: the pack is made
// without it, and says so.
func (b *builder) covering(ctx context.Context) ([]byte, error) {
	p := b.options.Period
	if p.To.After(b.database.Now) {
		return nil, fmt.Errorf("%w: it ends at %s, and is not over (--size names a checkpoint to stand on nevertheless)", ErrNotCovered, p.To.Format(time.RFC3339))
	}
	c, err := b.log.Cover(ctx, p.From, p.To)
	waiting := int64(0)
	for i := range b.unsealed {
		if r := &b.unsealed[i]; r.waits() {
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

func (b *builder) selection() Selection {
	o := b.options
	return Selection{o.Period.From, o.Period.To, b.checkpoint.Size, o.Repositories}
}

func (b *builder) exceptions(ctx context.Context) error {
	if b.options.Exceptions == nil {
		return nil
	}
	for _, revision := range sorted(b.revisions) {
		content, err := b.log.Policy(ctx, revision)
		if err != nil {
			return err
		}
		snapshot := snapshotOf(content, revision, b.revisions[revision])
		if snapshot == nil {
			b.facts.Exceptions = append(b.facts.Exceptions, Exception{Revision: revision, Unreadable: "the log does not hold the files of this digest"})
			continue
		}
		list, err := b.options.Exceptions(ctx, snapshot)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			list = []Exception{{Unreadable: audit.Text(err.Error(), 1000)}}
		}
		for _, e := range list {
			e.Revision = revision
			b.facts.Exceptions = append(b.facts.Exceptions, e)
		}
	}
	return nil
}

// report writes the facts, the tables and the report.
func (b *builder) report(context.Context) error {
	var text bytes.Buffer
	if err := writeJSON(&text, &b.facts); err != nil {
		return err
	}
	if text.Len() > maxFacts {
		return fmt.Errorf("the facts of this period have %d bytes, and at most %d can be checked: make packs of shorter periods, or of fewer repositories", text.Len(), maxFacts)
	}
	if err := b.folder.write(factsFile, -1, func(o *output) error { _, err := o.Write(text.Bytes()); return err }); err != nil {
		return err
	}
	// What the report says is what can be read of the file.
	b.facts = Facts{}
	if err := json.Unmarshal(text.Bytes(), &b.facts); err != nil {
		return err
	}
	sections, err := b.population.sections.render(&b.facts)
	if err != nil {
		return err
	}
	for _, t := range tablesOf(sections) {
		if err := b.folder.write(tablesFolder+t.Name+".csv", int64(len(t.Rows)), func(o *output) error { return t.write(o) }); err != nil {
			return err
		}
	}
	s := &b.population.sample
	return b.folder.write(reportFile, -1, func(o *output) error { return writeReport(o, &b.facts, sections, s.ids(), s.seed) })
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

// access writes what is true of the database now.
func (b *builder) access(ctx context.Context) error {
	tables, err := b.log.Access(ctx, b.options.Period.From, b.options.Period.To)
	if err != nil {
		return err
	}
	for _, t := range tables {
		if err := b.folder.write(currentFolder+t.Name+".csv", int64(len(t.Rows)), func(o *output) error { return t.write(o) }); err != nil {
			return err
		}
	}
	return b.folder.write(currentFolder+"access.html", -1, func(o *output) error { return writeAccess(o, b.database, tables) })
}

func (b *builder) manifest(context.Context) error {
	o := b.options
	m := &Manifest{
		Format: format, Title: "Evidence of egress control", Time: b.checkpoint.Time.UTC(), TimeZone: "UTC", Tool: o.Tool,
		Parameters: Parameters{
			Period: o.Period, Repositories: o.Repositories, Size: o.Size, Sample: o.Sample,
			Seed: b.population.sample.seed, SeedGiven: o.Seed != "", Keys: o.Trust.Keys, Outside: len(b.anchors),
		},
		Database: b.database, Checkpoint: string(b.note), Sound: b.facts.Result.Sound,
		Population: b.population.count, Probes: b.population.probes, Events: b.events, Sample: b.population.sample.ids(),
		Queries: b.queries(), Files: b.folder.listed(),
	}
	m.Signature = "none: it was made with --unsigned, and anybody can have made it"
	if o.Signer != nil {
		m.Signature = string(o.Signer.Key())
	}
	text, err := m.encode(o.Signer)
	if err != nil {
		return err
	}
	b.built = Built{Manifest: m, Digest: sha256.Sum256(text), Facts: &b.facts}
	return b.folder.write(manifestName, -1, func(o *output) error { _, err := o.Write(text); return err })
}

// queries are the statements, with the rows that they gave where that is known.
func (b *builder) queries() []Query {
	list := slices.Clone(b.log.Queries())
	for i := range list {
		switch list[i].Name {
		case QueryDecisions:
			list[i].Rows = b.population.count
		case QueryLeaves:
			list[i].Rows = b.checkpoint.Size
		}
	}
	return list
}

// Names of queries of which a pack counts the rows.
const (
	QueryDecisions = "decisions of the period"
	QueryLeaves    = "leaves"
)
