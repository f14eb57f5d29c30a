package evidence

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// Options say what a pack is to be of.
type Options struct {
	Period       Period
	Repositories []string    // full names or UUIDs; none: all
	Size         int64       // of the checkpoint to stand on; 0: the first that covers the period
	Sample       int         // how many dossiers
	Seed         string      // empty: the root of the checkpoint
	Trust        audit.Trust // from outside of the log
	Signer       *audit.Signer
	Unsigned     bool // make it without a signer
	Tool         string
	Exceptions   Exceptions                         // nil: none are listed
	Progress     func(stage string, events int64)   // nil: nobody wants to know
	Record       func(context.Context, Built) error // told before the pack gets its name; its error undoes it
}

// Built says what was made.
type Built struct {
	Manifest *Manifest
	Digest   [sha256.Size]byte // of the manifest's file
	Facts    *Facts
}

var (
	// ErrNotCovered is returned, wrapped, where no checkpoint covers the period.
	ErrNotCovered = errors.New("no checkpoint covers the period yet")
	// ErrParameters is returned, wrapped, for options that make no pack.
	ErrParameters = errors.New("these parameters make no pack")
)

// mostSample is the largest sample.
const mostSample = 10_000

func (o *Options) check() error {
	p := o.Period
	switch {
	case p.From.IsZero() || p.To.IsZero() || !p.From.Before(p.To):
		return fmt.Errorf("%w: the period ends before it begins", ErrParameters)
	case o.Sample < 0 || o.Sample > mostSample:
		return fmt.Errorf("%w: a sample has 0 to %d decisions", ErrParameters, mostSample)
	case o.Signer == nil && !o.Unsigned:
		return fmt.Errorf("%w: there is no key to sign the manifest with", ErrParameters)
	case o.Size < 0 || slices.Contains(o.Repositories, ""):
		return fmt.Errorf("%w: a size is a number above 0, and a repository has a name", ErrParameters)
	}
	return nil
}

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
	if err := b.choose(ctx); err != nil {
		return nil, err
	}
	if b.folder, err = newFolder(out); err != nil {
		return nil, err
	}
	defer b.folder.abandon()
	for _, step := range []func(context.Context) error{b.decisions, b.walk, b.exceptions, b.report, b.dossiers, b.access, b.manifest} {
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
	provenance provenance
	revisions  map[string]string // that decided or were activated in the period, with their commits
	events     int64
	built      Built
}

// choose finds the checkpoint that the pack stands on.
func (b *builder) choose(ctx context.Context) (err error) {
	o := &b.options
	if o.Size > 0 {
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

// covering is the first checkpoint that covers every event of the period. It
// depends on these events alone, so that it stays the same while the log grows.
func (b *builder) covering(ctx context.Context) ([]byte, error) {
	p := b.options.Period
	if p.To.After(b.database.Now) {
		return nil, fmt.Errorf("%w: it ends at %s, and is not over (--size names a checkpoint to stand on nevertheless)", ErrNotCovered, p.To.Format(time.RFC3339))
	}
	c, err := b.log.Cover(ctx, p.From, p.To)
	switch {
	case err != nil:
		return nil, err
	case c.Unsealed > 0:
		return nil, fmt.Errorf("%w: %d of its %d events are not sealed; wait some seconds, and where that does not help see `sallyport audit verify` (--size names a checkpoint to stand on nevertheless)", ErrNotCovered, c.Unsealed, c.Events)
	case c.Last < 0:
		return b.log.CheckpointAfter(ctx, p.To)
	}
	return b.log.Checkpoint(ctx, c.Last+1)
}

// decisions writes the population.
func (b *builder) decisions(ctx context.Context) error {
	lines, err := b.folder.create(populationFile)
	if err != nil {
		return err
	}
	defer lines.drop()
	sheet, err := b.folder.create(spreadsheet)
	if err != nil {
		return err
	}
	defer sheet.drop()
	p := &b.population
	p.chapters, p.revisions, p.csv, p.sample.size = beginChapters(), b.revisions, audit.NewCSV(sheet), b.options.Sample
	if err := p.csv.Write(populationColumns...); err != nil {
		return err
	}
	var line []byte
	if err := b.log.Decisions(ctx, b.selection(), func(pair *Pair) error {
		line = appendPair(line[:0], pair)
		if _, err := lines.Write(line); err != nil {
			return err
		}
		if _, err := p.take(pair); err != nil {
			return err
		}
		if p.count%1024 == 0 {
			b.options.Progress("decisions of the period", p.count)
		}
		return nil
	}); err != nil {
		return err
	}
	b.options.Progress("decisions of the period", p.count)
	return errors.Join(lines.close(p.count), sheet.close(p.count-p.bad))
}

func (b *builder) selection() Selection {
	o := b.options
	return Selection{o.Period.From, o.Period.To, b.checkpoint.Size, o.Repositories}
}

// walk reads the whole log up to the checkpoint, verifies it, and keeps what the
// report is made of beside decisions.
func (b *builder) walk(ctx context.Context) error {
	lines, err := b.folder.create(eventsFile)
	if err != nil {
		return err
	}
	defer lines.drop()
	var leaves []int64
	for _, c := range b.population.sample.chosen {
		leaves = append(leaves, c.pair.Leaf)
		if c.pair.EndLeaf >= 0 {
			leaves = append(leaves, c.pair.EndLeaf)
		}
	}
	if b.prover, err = newProver(b.checkpoint.Size, leaves); err != nil {
		return err
	}
	v, err := audit.NewVerification(audit.Trust{Keys: b.options.Trust.Keys, Notes: b.anchors})
	if err != nil {
		return err
	}
	w := &walker{builder: b, verification: v, lines: lines, writers: map[string]*Writer{}, digests: &digest{}}
	b.facts = Facts{
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
	if err := lines.close(b.events); err != nil {
		return err
	}
	r := v.Report()
	if err := b.onward(ctx, r); err != nil {
		return err
	}
	b.facts.Result = resultOf(r, b.options.Trust.Keys)
	b.facts.Digest = w.digests.String()
	b.facts.Writers = w.list()
	b.facts.Unreadable += b.population.bad
	if b.facts.Selected != b.population.count || w.digests.String() != b.population.digest.String() {
		// A column that was changed hides a decision from who asks for it by its time.
		b.facts.Result.Sound = false
		b.facts.Result.Findings = append(b.facts.Result.Findings, fmt.Sprintf(
			"population_differs: by their columns the period has %d sealed decisions, by their records %d", b.population.count, b.facts.Selected))
	}
	return nil
}

// onward reads the log on behind the checkpoint where what comes later says
// something of what is before: a checkpoint from outside that is larger, where there
// is none of just this size, and retention, which tells what it took afterwards. What
// is missing for that reason is not told, so that a pack stays the same when a month
// before its period goes; what is missing of the period itself is.
func (b *builder) onward(ctx context.Context, r *audit.Report) error {
	to := int64(0)
	beyond, size, err := b.beyond(ctx)
	if err != nil {
		return err
	}
	if beyond != nil && size == 0 {
		b.damage(r, audit.DamageShort, "a checkpoint from outside covers more than the log has a checkpoint of: its end was cut off, or it is an older backup")
		beyond = nil
	}
	to = size
	missing := r.Counts[audit.DamageMissing] > 0
	if missing {
		if size, err = b.log.RetentionAfter(ctx, b.checkpoint.Size); err != nil {
			return err
		}
		missing, to = size > 0, max(to, size)
	}
	taken := r.Retentions
	if to > 0 {
		later, err := b.verify(ctx, to, beyond)
		if err != nil {
			return err
		}
		taken = append(slices.Clone(taken), later.Retentions...)
		if missing && later.Counts[audit.DamageMissing] == 0 {
			delete(r.Counts, audit.DamageMissing)
			r.Findings = slices.DeleteFunc(r.Findings, func(f audit.Finding) bool { return f.Damage == audit.DamageMissing })
		}
		switch {
		case beyond == nil:
		case later.Anchored.Size > b.checkpoint.Size:
			r.Anchored = later.Anchored
		default:
			b.damage(r, audit.DamageTree, "a checkpoint from outside, larger than the one that this pack stands on, does not hold: see `sallyport audit verify`")
		}
	}
	b.facts.Taken = b.months(taken)
	return nil
}

// beyond is the least checkpoint from outside that is larger than ours, where none
// has our size, and the size of the log's first checkpoint that covers it; 0: none does.
func (b *builder) beyond(ctx context.Context) (signed []byte, size int64, err error) {
	least := int64(0)
	for _, outside := range b.options.Trust.Notes {
		c, err := audit.ReadCheckpoint(outside)
		switch {
		case err != nil || c.Size < b.checkpoint.Size:
		case c.Size == b.checkpoint.Size:
			return nil, 0, nil
		case signed == nil || c.Size < least:
			signed, least = outside, c.Size
		}
	}
	if signed == nil {
		return nil, 0, nil
	}
	note, err := b.log.Checkpoint(ctx, least)
	if note == nil || err != nil {
		return signed, 0, err
	}
	c, err := audit.ReadCheckpoint(note)
	return signed, c.Size, err
}

// verify verifies the log up to a size, and against a checkpoint from outside if
// there is one.
func (b *builder) verify(ctx context.Context, size int64, outside []byte) (*audit.Report, error) {
	trust := audit.Trust{Keys: b.options.Trust.Keys}
	if outside != nil {
		trust.Notes = [][]byte{outside}
	}
	v, err := audit.NewVerification(trust)
	if err != nil {
		return nil, err
	}
	if err := b.log.Walk(ctx, size, v, func(n int64) { b.options.Progress("events verified, on to what came later", n) }); err != nil {
		return nil, err
	}
	return v.Report(), nil
}

func (b *builder) damage(r *audit.Report, d audit.Damage, detail string) {
	if r.Counts == nil {
		r.Counts = map[audit.Damage]int64{}
	}
	r.Counts[d]++
	r.Findings = append(r.Findings, audit.Finding{Damage: d, First: -1, Last: -1, Detail: detail})
}

// months are those of the period that retention has taken.
func (b *builder) months(taken []audit.Retention) []string {
	months := names{}
	last := b.options.Period.To.Add(-time.Microsecond).Format("2006-01")
	for _, one := range taken {
		if b.options.Period.From.Format("2006-01") <= one.Month && one.Month <= last {
			months.add(one.Month)
		}
	}
	return months
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
	if err := b.folder.write(factsFile, -1, func(o *output) error { _, err := o.Write(text.Bytes()); return err }); err != nil {
		return err
	}
	// What the report says is what can be read of the file.
	b.facts = Facts{}
	if err := json.Unmarshal(text.Bytes(), &b.facts); err != nil {
		return err
	}
	sections, err := b.population.chapters.render(&b.facts)
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

func (b *builder) dossiers(ctx context.Context) error {
	contents := map[string][]byte{}
	for i := range b.population.sample.chosen {
		c := &b.population.sample.chosen[i]
		s, err := read(c.pair.Record)
		if err != nil {
			return err
		}
		content, known := contents[s.Revision]
		if !known && s.Revision != "" {
			if content, err = b.log.Policy(ctx, s.Revision); err != nil {
				return err
			}
			clear(contents) // one at a time: the neighbours mostly have the same
			contents[s.Revision] = content
		}
		d, err := makeDossier(c, i, string(b.note), b.prover, &b.provenance, content)
		if err != nil {
			return err
		}
		if err := b.folder.write(samplesFolder+c.id+".json", -1, func(o *output) error { return writeJSON(o, d) }); err != nil {
			return err
		}
		if err := b.folder.write(samplesFolder+c.id+".html", -1, func(o *output) error { return d.writePage(o) }); err != nil {
			return err
		}
		b.options.Progress("dossiers", int64(i+1))
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
		Population: b.population.count, Events: b.events, Sample: b.population.sample.ids(),
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

// walker takes the log as it goes by.
type walker struct {
	builder      *builder
	verification *audit.Verification
	lines        *output
	line         []byte
	writers      map[string]*Writer
	digests      *digest
	err          error
}

// Checkpoint takes a checkpoint of the log.
func (w *walker) Checkpoint(s audit.Statement) { w.verification.Checkpoint(s) }

// Sealed takes the next leaf.
func (w *walker) Sealed(e *audit.Entry) {
	w.verification.Sealed(e)
	hash := e.Hash
	if hash == (audit.Hash{}) && e.Record != nil {
		hash = audit.Leaf(e.Record)
	}
	w.builder.prover.add(e.Index, hash)
	at, kind := peek(e.Record)
	w.writer(e, at)
	if e.Record == nil || w.err != nil {
		return
	}
	f := &w.builder.facts
	inPeriod := f.Period.within(at)
	if inPeriod {
		f.Kinds[kind]++
	}
	switch {
	case kind == string(audit.KindDecision):
		if inPeriod {
			w.decision(e.Record)
		}
	case isClosing(kind):
	case inPeriod || lasting[kind]:
		w.event(e)
	}
}

// lasting are the kinds that a report needs from before its period and after.
var lasting = map[string]bool{
	string(audit.KindSigningKey): true, string(audit.KindPolicyLoaded): true,
	string(audit.KindWriterStarted): true, string(audit.KindWriterEnded): true, string(audit.KindWriterLost): true,
}

func (w *walker) decision(record []byte) {
	f := &w.builder.facts
	if len(f.Repositories) > 0 {
		s, err := read(record)
		if err != nil || !chosenBy(f.Repositories, s) {
			return
		}
	}
	f.Selected++
	w.digests.add(record)
}

// event keeps an event for the report.
func (w *walker) event(e *audit.Entry) {
	b := w.builder
	w.line = appendPair(w.line[:0], &Pair{Leaf: e.Index, EndLeaf: -1, Record: e.Record})
	if _, err := w.lines.Write(w.line); err != nil {
		w.err = err
		return
	}
	b.events++
	s, err := b.population.chapters.event(e.Index, e.Record, b.facts.Period)
	if err != nil {
		b.facts.Unreadable++
		return
	}
	b.provenance.event(e.Index, e.Record)
	if s.Kind == string(audit.KindPolicyLoaded) && b.facts.Period.within(s.Time) {
		b.revisions[s.Revision] = s.Commit
	}
	w.notice(s)
}

// notice keeps what is said of writers.
func (w *walker) notice(s *said) {
	switch audit.Kind(s.Kind) {
	case audit.KindWriterStarted:
		if one := w.writers[s.Writer]; one != nil {
			one.Started, one.Version, one.Hostname = s.Time, s.Attributes["version"], s.Attributes["hostname"]
		}
	case audit.KindWriterEnded:
		if one := w.writers[s.Writer]; one != nil {
			one.Ended = s.Time
		}
	case audit.KindWriterLost:
		if one := w.writers[s.Attributes["writer"]]; one != nil {
			one.Lost = s.Time
		}
	}
}

func (w *walker) writer(e *audit.Entry, at string) {
	one := w.writers[e.Writer]
	if one == nil {
		one = &Writer{Name: e.Writer}
		w.writers[e.Writer] = one
	}
	one.Events++
	if e.Sequence > one.Number+1 {
		one.Gaps += e.Sequence - one.Number - 1
	}
	one.Number = max(one.Number, e.Sequence)
	if at == "" {
		return
	}
	if one.First == "" || at < one.First {
		one.First = at
	}
	if at > one.Last {
		one.Last = at
		if one.Lost != "" {
			one.Lost = "" // it was only cut off, and went on
		}
	}
}

func (w *walker) list() []Writer {
	var list []Writer
	p := w.builder.options.Period
	for _, name := range sorted(w.writers) {
		one := *w.writers[name]
		// One that was lost or ended before is not of this period, and retention
		// takes what is known of it.
		over := one.Ended != "" || one.Lost != "" || one.Name == audit.DatabaseWriter
		if over && momentOf(one.Last).Before(p.From) || !momentOf(one.First).Before(p.To) {
			continue
		}
		list = append(list, one)
	}
	return list
}
