package evidence

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/sallyport/sallyport/audit"
)

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
	// The report is made of what the file has.
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
