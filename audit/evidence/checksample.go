package evidence

import (
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/audit"
)

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
	if err := c.sampleRecords(name, d.Records, &chosen.pair); err != nil {
		return err
	}
	s, err := read(chosen.pair.Record)
	if err != nil {
		return wrong("%s: %v", name, err)
	}
	if d.Revision != s.Revision || d.OwnRevision != s.OwnRevision || d.Rule != s.Rule || d.Commit != s.Commit || !slices.Equal(d.Activations, c.path.of(s)) {
		return wrong("%s: its policy is not the one of the events", name)
	}
	return c.samplePage(name, samplesFolder+chosen.id+".html", d)
}

// sampleRecords compares the records of a sample detail with those of the population,
// and checks their proofs.
func (c *checker) sampleRecords(name string, records []Proven, pair *Pair) error {
	want := []Proven{{Leaf: pair.Leaf, Record: string(pair.Record)}}
	if pair.EndLeaf >= 0 {
		want = append(want, Proven{Leaf: pair.EndLeaf, Record: string(pair.EndRecord)})
	}
	if len(records) != len(want) {
		return wrong("%s: it has %d records, and the population %d", name, len(records), len(want))
	}
	for i, r := range records {
		if r.Leaf != want[i].Leaf || r.Record != want[i].Record {
			return wrong("%s: record %d is not the population's", name, i+1)
		}
		proven := audit.CheckInclusion(r.Hashes, c.at.Size, c.at.Root, r.Leaf, audit.Leaf([]byte(r.Record))) == nil
		if proven != r.Proven || !proven && c.m.Sound {
			return wrong("%s: record %d: the proof does not hold", name, i+1)
		}
	}
	return nil
}

// samplePage makes the page of a sample detail again.
func (c *checker) samplePage(name, page string, d *SampleDetail) error {
	if !c.same() {
		return nil
	}
	h := newHashed()
	if err := d.writePage(h); err != nil {
		return err
	}
	if f, _ := c.m.file(page); f.Digest != h.digest() {
		return wrong("%s: it is not what is made of %s", page, name)
	}
	return nil
}
