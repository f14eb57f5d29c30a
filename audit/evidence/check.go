package evidence

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/audit"
)

// CheckOptions say what whoever checks a pack has from elsewhere.
type CheckOptions struct {
	Trust    audit.Trust
	Unsigned bool   // take a manifest that nobody signed
	Tool     string // this program: pages are made again if it is the one that made them
}

// Checked is what a check found.
type Checked struct {
	Manifest *Manifest
	SignedBy audit.Key // empty: nobody
	Vouched  bool      // by a key from outside, or one that is bound to it
	Anchored bool      // a checkpoint from outside is the one of the pack
	Bytes    int64
	Files    int
	Notes    []string // what could not be told
	Findings []string // the first damaged place first
}

// ErrNoPack is returned, wrapped, for a folder that is no pack at all.
var ErrNoPack = errors.New("this is no evidence pack")

// finding is damage that ends the check of one part.
type finding struct{ text string }

func (f finding) Error() string { return f.text }

func wrong(format string, a ...any) error { return finding{fmt.Sprintf(format, a...)} }

// Check holds a pack against its manifest, the manifest against its signature,
// and what was made of the population against the population. It needs nothing
// but the folder. Damage is a finding and no error: an error says that the folder
// could not be read, or is no pack.
func Check(ctx context.Context, dir string, o CheckOptions) (*Checked, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	text, err := readFile(root, manifestName, maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s has no manifest", ErrNoPack, dir)
	}
	if err != nil {
		return nil, err
	}
	c := &checker{ctx: ctx, root: root, options: o, result: &Checked{}}
	for _, part := range []func() error{
		func() error { return c.manifest(text) },
		c.files, c.facts, c.checkpoint, c.population, c.events, c.keys, c.tables, c.dossiers,
	} {
		err := part()
		if f, ok := errors.AsType[finding](err); ok {
			c.result.Findings = append(c.result.Findings, f.text)
			break // what follows stands on this
		}
		if err != nil {
			return nil, err
		}
	}
	return c.result, nil
}

type checker struct {
	ctx     context.Context
	root    *os.Root
	options CheckOptions
	result  *Checked

	m     *Manifest
	said  Facts
	at    audit.Checkpoint
	taken population
	sheet *hashed
	path  provenance
	named []audit.Registration
}

// hashed is the digest of what is written to it.
type hashed struct {
	*bufio.Writer
	sum  io.Writer
	done func() string
}

func newHashed() *hashed {
	h := &hashed{}
	sum := sha256.New()
	h.sum, h.done = sum, func() string { return hex.EncodeToString(sum.Sum(nil)) }
	h.Writer = bufio.NewWriterSize(sum, 1<<16)
	return h
}

func (h *hashed) digest() string {
	_ = h.Flush() // a hash takes everything
	return h.done()
}

func readFile(root *os.Root, name string, most int64) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		return nil, wrong("%s has more than %d bytes", name, most)
	}
	return b, err
}

func (c *checker) manifest(text []byte) error {
	keys := c.options.Trust.Keys
	if len(keys) == 0 {
		keys = claimedKey(text)
	}
	m, by, err := openManifest(text, keys, c.options.Unsigned)
	if err != nil {
		// A key that the log handed over to, or from, is looked for in the pack.
		bound := c.bound(claimedKey(text))
		if len(c.options.Trust.Keys) == 0 || len(bound) == 0 {
			return wrong("%s: %v", manifestName, err)
		}
		if m, by, err = openManifest(text, bound, c.options.Unsigned); err != nil {
			return wrong("%s: %v", manifestName, err)
		}
	}
	c.m, c.result.Manifest, c.result.SignedBy = m, m, by
	c.result.Vouched = by != "" && len(c.options.Trust.Keys) > 0
	if by != "" && string(by) != m.Signature {
		return wrong("%s: it says that it is signed by %s, and is by %s", manifestName, m.Signature, by)
	}
	return nil
}

// bound are those of some keys that are bound to a trusted one by signatures of
// events in the pack: handed over to, or from.
func (c *checker) bound(keys []audit.Key) []audit.Key {
	trusted := slices.Clone(c.options.Trust.Keys)
	file, err := c.root.Open(eventsFile)
	if err != nil {
		return nil
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(make([]byte, 1<<16), maxLine)
	var named []audit.Registration
	for lines.Scan() {
		if p, err := readPair(lines.Bytes()); err == nil {
			if _, kind := peek(p.Record); kind == string(audit.KindSigningKey) {
				if r, ok := audit.RegistrationOf(p.Record); ok {
					named = append(named, r)
				}
			}
		}
	}
	for range named {
		trusted = follow(trusted, named)
	}
	return slices.DeleteFunc(slices.Clone(keys), func(k audit.Key) bool { return !slices.Contains(trusted, k) })
}

// follow adds to keys those that are bound to one of them.
func follow(keys []audit.Key, named []audit.Registration) []audit.Key {
	for _, r := range named {
		if r.Previous == "" || !r.HandedOver(r.Previous) {
			continue
		}
		has, had := slices.Contains(keys, r.Key), slices.Contains(keys, r.Previous)
		if has && !had {
			keys = append(keys, r.Previous)
		} else if had && !has {
			keys = append(keys, r.Key)
		}
	}
	return keys
}

// files compares the folder with the manifest, name by name and byte by byte.
func (c *checker) files() error {
	there := map[string]bool{}
	err := fs.WalkDir(c.root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() || name == manifestName:
		case !d.Type().IsRegular():
			return wrong("%.200q: it is no regular file", name)
		default:
			if _, listed := c.m.file(name); !listed {
				return wrong("%.200q: the manifest does not list it", name)
			}
			there[name] = true
		}
		return c.ctx.Err()
	})
	if err != nil {
		return err
	}
	for _, f := range c.m.Files {
		if !there[f.Path] {
			return wrong("%s: it is missing", f.Path)
		}
		if err := c.file(f); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) file(f File) error {
	file, err := c.root.Open(f.Path)
	if err != nil {
		return err
	}
	defer file.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, file)
	if err != nil {
		return err
	}
	c.result.Bytes += n
	c.result.Files++
	if n != f.Size || hex.EncodeToString(sum.Sum(nil)) != f.Digest {
		return wrong("%s: it is not what the manifest says: %d bytes of SHA-256 %x, not %d of %.64s", f.Path, n, sum.Sum(nil), f.Size, f.Digest)
	}
	return c.ctx.Err()
}

const maxFacts = 1 << 30

func (c *checker) facts() error {
	text, err := readFile(c.root, factsFile, maxFacts)
	if errors.Is(err, fs.ErrNotExist) {
		return wrong("%s: it is missing", factsFile)
	}
	if err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&c.said); err != nil {
		return wrong("%s: it cannot be read: %v", factsFile, err)
	}
	p := c.m.Parameters
	if c.said.Checkpoint != c.m.Checkpoint || !c.said.Period.From.Equal(p.From) || !c.said.Period.To.Equal(p.To) ||
		!slices.Equal(c.said.Repositories, p.Repositories) || c.said.Result.Sound != c.m.Sound {
		return wrong("%s: it says something else than the manifest", factsFile)
	}
	return nil
}

// checkpoint checks the signature of the checkpoint, and that it is the one that
// was kept elsewhere.
func (c *checker) checkpoint() error {
	signed := []byte(c.m.Checkpoint)
	var err error
	if c.at, err = audit.ReadCheckpoint(signed); err != nil {
		return wrong("checkpoint: %v", err)
	}
	if _, _, err := audit.OpenCheckpoint(signed, c.said.Result.Keys...); err != nil && c.m.Sound {
		return wrong("checkpoint: %v", err)
	}
	if !c.at.Time.Equal(c.m.Time) || c.said.Log != c.at.Origin || c.m.Sound && c.said.Result.Leaves != c.at.Size {
		return wrong("checkpoint: its time, name or size is not the pack's")
	}
	for _, outside := range c.options.Trust.Notes {
		o, err := audit.ReadCheckpoint(outside)
		if err != nil {
			return err
		}
		if o.Size == c.at.Size || o.Origin != c.at.Origin {
			if o.Root != c.at.Root || o.Origin != c.at.Origin {
				return wrong("checkpoint: the one from outside of size %d of %s has another root than the pack's of size %d of %s", o.Size, o.Origin, c.at.Size, c.at.Origin)
			}
			c.result.Anchored = true
		}
	}
	switch {
	case c.result.Anchored:
	case len(c.options.Trust.Notes) > 0:
		c.result.Notes = append(c.result.Notes, fmt.Sprintf("no checkpoint from outside has the size of the pack's, %d: whether the log was another one before cannot be told from the pack", c.at.Size))
	default:
		c.result.Notes = append(c.result.Notes, "no checkpoint from outside was given (--checkpoint): whether the log was written anew before the pack was made cannot be told")
	}
	return nil
}

// maxLine bounds a line: a record has an input of at most a megabyte.
const maxLine = 16 << 20

func (c *checker) lines(name string, f func(n int64, p *Pair) error) (int64, error) {
	file, err := c.root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, wrong("%s: it is missing", name)
	}
	if err != nil {
		return 0, err
	}
	defer file.Close()
	in := bufio.NewScanner(file)
	in.Buffer(make([]byte, 1<<18), maxLine)
	n := int64(0)
	for in.Scan() {
		n++
		p, err := readPair(in.Bytes())
		if err != nil {
			return 0, wrong("%s: line %d: %v", name, n, err)
		}
		if p.Leaf >= c.at.Size || p.EndLeaf >= c.at.Size {
			return 0, wrong("%s: line %d: the checkpoint does not cover leaf %d", name, n, max(p.Leaf, p.EndLeaf))
		}
		if err := f(n, p); err != nil {
			return 0, err
		}
		if n%1024 == 0 && c.ctx.Err() != nil {
			return 0, c.ctx.Err()
		}
	}
	if errors.Is(in.Err(), bufio.ErrTooLong) {
		return 0, wrong("%s: line %d is longer than any", name, n+1)
	}
	return n, in.Err()
}

// population reads the population again, and makes of it what was made of it.
func (c *checker) population() error {
	c.sheet = newHashed()
	c.taken = population{
		chapters: beginChapters(), revisions: map[string]string{}, csv: audit.NewCSV(c.sheet),
		sample: sample{size: c.m.Parameters.Sample, seed: c.m.Parameters.Seed},
	}
	if err := c.taken.csv.Write(populationColumns...); err != nil {
		return err
	}
	var before *decided
	n, err := c.lines(populationFile, func(n int64, p *Pair) error {
		d, err := c.taken.take(p)
		if err != nil || d == nil {
			return err
		}
		switch {
		case d.Kind != string(audit.KindDecision) || d.end != nil && (!isClosing(d.end.Kind) || d.end.DecisionID != d.DecisionID):
			return wrong("%s: line %d is no decision with its own end", populationFile, n)
		case !chosenBy(c.said.Repositories, d.said) && c.m.Sound:
			return wrong("%s: line %d is of another repository", populationFile, n)
		case !c.said.Period.within(d.Time) && c.m.Sound:
			return wrong("%s: line %d is of another time", populationFile, n)
		case before != nil && !follows(before, d) && c.m.Sound:
			return wrong("%s: line %d is out of order, or there twice", populationFile, n)
		}
		before = d
		return nil
	})
	if err != nil {
		return err
	}
	if n != c.m.Population || c.m.Sound && (n != c.said.Selected || c.taken.digest.String() != c.said.Digest) {
		return wrong("%s: it has %d decisions, the manifest says %d and the log %d, or they are others", populationFile, n, c.m.Population, c.said.Selected)
	}
	if f, _ := c.m.file(spreadsheet); f.Digest != c.sheet.digest() {
		return wrong("%s: it is not what is made of %s", spreadsheet, populationFile)
	}
	return nil
}

// follows reports whether a decision comes after another in the population.
func follows(a, b *decided) bool {
	if a.Time != b.Time {
		return a.Time < b.Time
	}
	if a.Writer != b.Writer {
		return a.Writer < b.Writer
	}
	return a.WriterSequence < b.WriterSequence
}

func (c *checker) events() error {
	last := int64(-1)
	n, err := c.lines(eventsFile, func(n int64, p *Pair) error {
		if p.Leaf <= last || p.EndLeaf >= 0 {
			return wrong("%s: line %d is out of order", eventsFile, n)
		}
		last = p.Leaf
		s, err := c.taken.chapters.event(p.Leaf, p.Record, c.said.Period)
		if err != nil {
			return nil // counted when it was made
		}
		c.path.event(p.Leaf, p.Record)
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
		return wrong("%s: it has %d events, and the manifest says %d", eventsFile, n, c.m.Events)
	}
	return nil
}

// keys holds the key of the checkpoint against those from outside.
func (c *checker) keys() error {
	if len(c.options.Trust.Keys) == 0 {
		c.result.Notes = append(c.result.Notes, "no key from outside was given (--key): nobody but the pack itself says whose log it is of")
		return nil
	}
	trusted := slices.Clone(c.options.Trust.Keys)
	for range c.named {
		trusted = follow(trusted, c.named)
	}
	if _, _, err := audit.OpenCheckpoint([]byte(c.m.Checkpoint), trusted...); err != nil {
		return wrong("checkpoint: %v", err)
	}
	return nil
}

// tables makes the tables and the report again.
func (c *checker) tables() error {
	sections, err := c.taken.chapters.render(&c.said)
	if err != nil {
		return err
	}
	made := map[string]bool{}
	for _, t := range tablesOf(sections) {
		name := tablesFolder + t.Name + ".csv"
		h := newHashed()
		if err := t.write(h); err != nil {
			return err
		}
		made[name] = true
		if f, ok := c.m.file(name); !ok || f.Digest != h.digest() {
			return wrong("%s: it is not what is made of the population and the events", name)
		}
	}
	for _, f := range c.m.Files {
		if strings.HasPrefix(f.Path, tablesFolder) && !made[f.Path] {
			return wrong("%s: it is no table of this report", f.Path)
		}
	}
	s := &c.taken.sample
	if !slices.Equal(s.ids(), c.m.Sample) {
		return wrong("%s: the sample is not the one that seed and population give", manifestName)
	}
	if !c.same() {
		c.result.Notes = append(c.result.Notes, fmt.Sprintf("the pages were made by another version of the program (%.100s): their digests hold, and they were not made again", c.m.Tool))
		return nil
	}
	h := newHashed()
	if err := writeReport(h, &c.said, sections, s.ids(), s.seed); err != nil {
		return err
	}
	if f, _ := c.m.file(reportFile); f.Digest != h.digest() {
		return wrong("%s: it is not what is made of the population and the events", reportFile)
	}
	return nil
}

// same reports whether this program makes the same pages. Of two that do not know
// their version that is not known.
func (c *checker) same() bool {
	return c.m.Tool == c.options.Tool && !strings.HasSuffix(c.m.Tool, "unknown")
}

const maxDossier = 64 << 20

func (c *checker) dossiers() error {
	listed := 0
	for _, f := range c.m.Files {
		if strings.HasPrefix(f.Path, samplesFolder) {
			listed++
		}
	}
	if listed != 2*len(c.taken.sample.chosen) {
		return wrong("%s: there are %d files for %d decisions", samplesFolder, listed, len(c.taken.sample.chosen))
	}
	for i := range c.taken.sample.chosen {
		if err := c.dossier(i, &c.taken.sample.chosen[i]); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) dossier(place int, chosen *chosen) error {
	name := samplesFolder + chosen.id + ".json"
	text, err := readFile(c.root, name, maxDossier)
	if errors.Is(err, fs.ErrNotExist) {
		return wrong("%s: it is missing", name)
	}
	if err != nil {
		return err
	}
	d, err := readDossier(text)
	if err != nil {
		return wrong("%s: %v", name, err)
	}
	if d.ID != chosen.id || d.Place != place || d.Rank != chosen.Rank() || d.Checkpoint != c.m.Checkpoint {
		return wrong("%s: its id, place, rank or checkpoint is not the pack's", name)
	}
	want := []Proven{{Leaf: chosen.pair.Leaf, Record: string(chosen.pair.Record)}}
	if chosen.pair.EndLeaf >= 0 {
		want = append(want, Proven{Leaf: chosen.pair.EndLeaf, Record: string(chosen.pair.EndRecord)})
	}
	if len(d.Records) != len(want) {
		return wrong("%s: it has %d records, and the population %d", name, len(d.Records), len(want))
	}
	for i, r := range d.Records {
		if r.Leaf != want[i].Leaf || r.Record != want[i].Record {
			return wrong("%s: record %d is not the population's", name, i+1)
		}
		proven := audit.CheckInclusion(r.Hashes, c.at.Size, c.at.Root, r.Leaf, audit.Leaf([]byte(r.Record))) == nil
		if proven != r.Proven || !proven && c.m.Sound {
			return wrong("%s: record %d: the proof does not hold", name, i+1)
		}
	}
	s, err := read(chosen.pair.Record)
	if err != nil {
		return wrong("%s: %v", name, err)
	}
	if d.Revision != s.Revision || d.Rule != s.Rule || d.Commit != s.Commit || !slices.Equal(d.Activations, c.path.of(s.Revision, s.Writer)) {
		return wrong("%s: what it says of the policy is not what the events say", name)
	}
	if !c.same() {
		return nil
	}
	h := newHashed()
	if err := d.writePage(h); err != nil {
		return err
	}
	page := samplesFolder + chosen.id + ".html"
	if f, _ := c.m.file(page); f.Digest != h.digest() {
		return wrong("%s: it is not what is made of %s", page, name)
	}
	return nil
}
