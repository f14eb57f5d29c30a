package evidence

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/audit"
)

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
		p, err := c.pair(name, n, in.Bytes())
		if err != nil {
			return 0, err
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

// pair reads a line of a file.
func (c *checker) pair(name string, n int64, line []byte) (*Pair, error) {
	p, err := readPair(line)
	if err != nil {
		return nil, wrong("%s: line %d: %v", name, n, err)
	}
	if p.Leaf >= c.at.Size || p.EndLeaf >= c.at.Size {
		return nil, wrong("%s: line %d: the checkpoint does not cover leaf %d", name, n, max(p.Leaf, p.EndLeaf))
	}
	return p, nil
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
		s, err := c.taken.event(p.Leaf, p.Record, c.manifestFacts.Period)
		if err != nil {
			return nil // counted when it was made
		}
		c.path.event(p.Leaf, p.Record)
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
		return wrong("%s: it has %d events, and the manifest says %d", eventsFile, n, c.m.Events)
	}
	return nil
}

// numbers holds what the facts say of missing numbers and late events against the
// records and themselves. Of a log that is damaged they may say anything.
func (c *checker) numbers() error {
	if !c.m.Sound {
		return nil
	}
	return c.count.check(c.at.Size, c.manifestFacts.Result.Keys)
}

// tables makes the tables and the report again.
func (c *checker) tables() error {
	sections, err := c.taken.sections.render(&c.manifestFacts)
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
			return wrong("%s: it is not a table of this report", f.Path)
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
	if err := writeReport(h, &c.manifestFacts, sections, s.ids(), s.seed); err != nil {
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

const maxSampleDetail = 64 << 20

func (c *checker) sampleDetails() error {
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
		if err := c.sampleDetail(i, &c.taken.sample.chosen[i]); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) sampleDetail(place int, chosen *chosen) error {
	name := samplesFolder + chosen.id + ".json"
	text, err := readFile(c.root, name, maxSampleDetail)
	if errors.Is(err, fs.ErrNotExist) {
		return wrong("%s: it is missing", name)
	}
	if err != nil {
		return err
	}
	d, err := readSampleDetail(text)
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
	if d.Revision != s.Revision || d.OwnRevision != s.OwnRevision || d.Rule != s.Rule || d.Commit != s.Commit || !slices.Equal(d.Activations, c.path.of(s)) {
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
