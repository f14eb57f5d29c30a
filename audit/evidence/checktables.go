package evidence

import (
	"fmt"
	"slices"
	"strings"
)

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
