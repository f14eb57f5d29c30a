package evidence

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/audit/evidence/pack"
	"github.com/sallyport/sallyport/audit/evidence/report"
)

// tables makes the tables and the report again.
func (c *checker) tables() error {
	sections, err := c.counted.Sections.Render(&c.manifestFacts)
	if err != nil {
		return err
	}
	made := map[string]bool{}
	for _, t := range report.TablesOf(sections) {
		name := pack.TablesFolder + t.Name + ".csv"
		h := newHashed()
		if err := t.Write(h); err != nil {
			return err
		}
		made[name] = true
		if f, ok := c.m.File(name); !ok || f.Digest != h.digest() {
			return wrong("%s: it is not what is made of the population and the events", name)
		}
	}
	for _, f := range c.m.Files {
		if strings.HasPrefix(f.Path, pack.TablesFolder) && !made[f.Path] {
			return wrong("%s: it is not a table of this report", f.Path)
		}
	}
	s := &c.counted.Sample
	if !slices.Equal(s.IDs(), c.m.Sample) {
		return wrong("%s: the sample is not the one that seed and population give", pack.ManifestName)
	}
	if !c.same() {
		c.result.Notes = append(c.result.Notes, fmt.Sprintf("the pages were made by another version of the program (%.100s): their digests hold, and they were not made again", c.m.Tool))
		return nil
	}
	h := newHashed()
	if err := report.WritePage(h, &c.manifestFacts, sections, s.IDs(), s.Seed); err != nil {
		return err
	}
	if f, _ := c.m.File(pack.ReportFile); f.Digest != h.digest() {
		return wrong("%s: it is not what is made of the population and the events", pack.ReportFile)
	}
	return nil
}

// same reports whether this program makes the same pages. Of two that do not know
// their version that is not known.
func (c *checker) same() bool {
	return c.m.Tool == c.options.Tool && !strings.HasSuffix(c.m.Tool, "unknown")
}
