package evidence

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"io/fs"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
	"github.com/sallyport/sallyport/audit/evidence/report"
	"github.com/sallyport/sallyport/audit/recorded"
)

// population reads the population again, and makes of it what was made of it.
func (c *checker) population() error {
	sheet := newHashed()
	c.counted = report.Population{
		Sections: report.NewSections(), Revisions: map[string]string{}, Sample: pack.Sample{Size: c.m.Parameters.Sample, Seed: c.m.Parameters.Seed},
	}
	if err := audit.NewCSV(sheet).Write(report.PopulationColumns...); err != nil {
		return err
	}
	c.count = newNumbering(&c.manifestFacts)
	var before *report.Decision
	n := int64(0)
	err := c.decisions(func(one *report.Prepared) error {
		n++
		if one.Err != nil {
			return one.Err
		}
		c.counted.Add(one)
		d := one.Decided
		if d == nil {
			return nil
		}
		if n%1024 == 0 {
			c.options.Progress("decisions checked", n)
		}
		if _, err := sheet.Write(one.Row); err != nil {
			return err
		}
		if err := c.decision(n, d, before); err != nil {
			return err
		}
		before = d
		c.count.decision(d.Event, one.Pair.Leaf)
		if d.End != nil {
			c.count.record(d.End, one.Pair.EndLeaf)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if n != c.m.Population || c.counted.Probes != c.m.Probes || c.m.Sound && (n != c.manifestFacts.Selected || c.counted.Digest.String() != c.manifestFacts.Digest) {
		return wrong("%s: it has %d decisions, the manifest has %d and the log %d, or they are different ones", pack.PopulationFile, n, c.m.Population, c.manifestFacts.Selected)
	}
	if f, _ := c.m.File(pack.Spreadsheet); f.Digest != sheet.digest() {
		return wrong("%s: it is not what is made of %s", pack.Spreadsheet, pack.PopulationFile)
	}
	return nil
}

// decision checks one decision and its place.
func (c *checker) decision(n int64, d, before *report.Decision) error {
	switch {
	case d.Kind != string(audit.KindDecision) || d.End != nil && (!recorded.IsClosing(d.End.Kind) || d.End.DecisionID != d.DecisionID):
		return wrong("%s: line %d is not a decision with its own end", pack.PopulationFile, n)
	case !pack.IsSelected(c.manifestFacts.Repositories, d.Event) && c.m.Sound:
		return wrong("%s: line %d is of another repository", pack.PopulationFile, n)
	case !c.manifestFacts.Period.Contains(d.Time) && c.m.Sound:
		return wrong("%s: line %d is of another time", pack.PopulationFile, n)
	case before != nil && !follows(before, d) && c.m.Sound:
		return wrong("%s: line %d is out of order, or there twice", pack.PopulationFile, n)
	}
	return nil
}

// decisions gives the decisions in their order. It reads what is in the compressed
// file, and never compresses anything itself: another version of the compressor makes
// other bytes.
func (c *checker) decisions(use func(*report.Prepared) error) error {
	listed, _ := c.m.File(pack.PopulationFile)
	file, err := c.root.Open(pack.PopulationFile)
	if errors.Is(err, fs.ErrNotExist) {
		return wrong("%s: it is missing", pack.PopulationFile)
	}
	if err != nil {
		return err
	}
	defer file.Close()
	if listed.Content == nil {
		return wrong("%s: it has no size and digest of the content of %s", pack.ManifestName, pack.PopulationFile)
	}
	if listed.Content.Size < 0 || listed.Content.Size/maxCompression > listed.Size {
		return wrong("%s: the manifest has %d bytes of content in %d compressed ones: no population compresses so well", pack.PopulationFile, listed.Content.Size, listed.Size)
	}
	zip, err := gzip.NewReader(bufio.NewReaderSize(file, 1<<17))
	if err != nil {
		return wrong("%s: it cannot be decompressed: %v", pack.PopulationFile, err)
	}
	content := &content{from: zip, left: listed.Content.Size, sum: sha256.New()}
	in := bufio.NewScanner(content)
	in.Buffer(make([]byte, 1<<18), pack.MaxLine)
	first := int64(1)
	next := func() (func() ([]report.Prepared, error), error) {
		lines := nextLines(in)
		if len(lines) == 0 {
			return nil, nil
		}
		n := first
		first += int64(len(lines))
		return func() ([]report.Prepared, error) { return c.batch(n, lines) }, nil
	}
	if err := report.InOrder(c.ctx, next, use); err != nil {
		return err
	}
	switch err := in.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return wrong("%s: line %d is longer than a record can be", pack.PopulationFile, first)
	case err != nil:
		return wrong("%s: it cannot be decompressed: %v", pack.PopulationFile, err)
	case content.left != 0 || hex.EncodeToString(content.sum.Sum(nil)) != listed.Content.Digest:
		return wrong("%s: its content does not match the manifest", pack.PopulationFile)
	}
	return nil
}

// nextLines reads the lines of the next batch; none: there are no more.
func nextLines(in *bufio.Scanner) (lines [][]byte) {
	for size := 0; len(lines) < report.BatchSize && size < report.BatchBytes && in.Scan(); {
		lines = append(lines, bytes.Clone(in.Bytes()))
		size += len(in.Bytes())
	}
	return lines
}

// maxCompression bounds how many times its size a compressed file may hold. Each
// decision has an id of its own, so that a population shrinks to a tenth or so; a
// file of zeros shrinks to a thousandth.
const maxCompression = 200

// batch prepares lines of the population, of which the first is number n.
func (c *checker) batch(n int64, lines [][]byte) ([]report.Prepared, error) {
	list := make([]report.Prepared, 0, len(lines))
	for i, line := range lines {
		p, err := c.pair(pack.PopulationFile, n+int64(i), line)
		if err != nil {
			return nil, err
		}
		list = append(list, report.Prepare(*p))
	}
	return list, nil
}

// content reads what is in a compressed file, and not more than it is to have: a few
// bytes can become as many as anybody likes.
type content struct {
	from io.Reader
	left int64
	sum  hash.Hash
}

var errTooMuch = errors.New("it has more content than the manifest states")

func (c *content) Read(b []byte) (int, error) {
	n, err := c.from.Read(b)
	if c.left -= int64(n); c.left < 0 {
		return 0, errTooMuch
	}
	c.sum.Write(b[:n])
	return n, err
}

// follows reports whether a decision comes after another in the population.
func follows(a, b *report.Decision) bool {
	if a.Time != b.Time {
		return a.Time < b.Time
	}
	if a.Writer != b.Writer {
		return a.Writer < b.Writer
	}
	return a.WriterSequence < b.WriterSequence
}
