package evidence

import (
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
	"github.com/sallyport/sallyport/audit/evidence/report"
	"github.com/sallyport/sallyport/audit/recorded"
)

func (c *checker) sampleDetails() error {
	listed := 0
	for _, f := range c.m.Files {
		if strings.HasPrefix(f.Path, pack.SamplesFolder) {
			listed++
		}
	}
	if listed != 2*len(c.counted.Sample.Chosen) {
		return wrong("%s: there are %d files for %d decisions", pack.SamplesFolder, listed, len(c.counted.Sample.Chosen))
	}
	for i := range c.counted.Sample.Chosen {
		if err := c.sampleDetail(i, &c.counted.Sample.Chosen[i]); err != nil {
			return err
		}
		c.options.Progress("sample details checked", int64(i+1))
	}
	return nil
}

func (c *checker) sampleDetail(place int, chosen *pack.Chosen) error {
	name := pack.SamplesFolder + chosen.ID + ".json"
	text, err := readFile(c.root, name, pack.MaxSampleDetail)
	if errors.Is(err, fs.ErrNotExist) {
		return wrong("%s: it is missing", name)
	}
	if err != nil {
		return err
	}
	d, err := pack.ReadSampleDetail(text)
	if err != nil {
		return wrong("%s: %v", name, err)
	}
	if d.ID != chosen.ID || d.Place != place || d.Rank != chosen.Rank() || d.Checkpoint != c.m.Checkpoint {
		return wrong("%s: its id, place, rank or checkpoint is not the pack's", name)
	}
	if err := c.sampleRecords(name, d.Records, &chosen.Pair); err != nil {
		return err
	}
	s, err := recorded.Read(chosen.Pair.Record)
	if err != nil {
		return wrong("%s: %v", name, err)
	}
	if d.Revision != s.Revision || d.OwnRevision != s.OwnRevision || d.Rule != s.Rule || d.Commit != s.Commit || !slices.Equal(d.Activations, c.path.Of(s)) {
		return wrong("%s: its policy is not the one of the events", name)
	}
	return c.samplePage(name, pack.SamplesFolder+chosen.ID+".html", d)
}

// sampleRecords compares the records of a sample detail with those of the population,
// and checks their proofs.
func (c *checker) sampleRecords(name string, records []pack.Proven, pair *pack.Pair) error {
	want := []pack.Proven{{Leaf: pair.Leaf, Record: string(pair.Record)}}
	if pair.EndLeaf >= 0 {
		want = append(want, pack.Proven{Leaf: pair.EndLeaf, Record: string(pair.EndRecord)})
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
func (c *checker) samplePage(name, page string, d *pack.SampleDetail) error {
	if !c.same() {
		return nil
	}
	h := newHashed()
	if err := report.WriteSamplePage(h, d); err != nil {
		return err
	}
	if f, _ := c.m.File(page); f.Digest != h.digest() {
		return wrong("%s: it is not what is made of %s", page, name)
	}
	return nil
}
