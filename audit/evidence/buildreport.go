package evidence

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
	"github.com/sallyport/sallyport/audit/evidence/report"
	"github.com/sallyport/sallyport/audit/evidence/ruletext"
)

// report writes the facts, the tables and the report.
func (b *builder) report(context.Context) error {
	var text bytes.Buffer
	if err := pack.WriteJSON(&text, &b.facts); err != nil {
		return err
	}
	if text.Len() > pack.MaxFacts {
		return fmt.Errorf("the facts of this period have %d bytes, and at most %d can be checked: make packs of shorter periods, or of fewer repositories", text.Len(), pack.MaxFacts)
	}
	if err := b.folder.write(pack.FactsFile, -1, func(o *output) error { _, err := o.Write(text.Bytes()); return err }); err != nil {
		return err
	}
	// The report is made of what the file has.
	b.facts = pack.Facts{}
	if err := json.Unmarshal(text.Bytes(), &b.facts); err != nil {
		return err
	}
	sections, err := b.population.Sections.Render(&b.facts)
	if err != nil {
		return err
	}
	for _, t := range report.TablesOf(sections) {
		if err := b.folder.write(pack.TablesFolder+t.Name+".csv", int64(len(t.Rows)), func(o *output) error { return t.Write(o) }); err != nil {
			return err
		}
	}
	s := &b.population.Sample
	return b.folder.write(pack.ReportFile, -1, func(o *output) error { return report.WritePage(o, &b.facts, sections, s.IDs(), s.Seed) })
}

func (b *builder) exceptions(ctx context.Context) error {
	if b.options.Exceptions == nil {
		return nil
	}
	for _, revision := range report.Sorted(b.revisions) {
		content, err := b.log.Policy(ctx, revision)
		if err != nil {
			return err
		}
		snapshot := ruletext.SnapshotOf(content, revision, b.revisions[revision])
		if snapshot == nil {
			b.facts.Exceptions = append(b.facts.Exceptions, pack.Exception{Revision: revision, Unreadable: "the log does not hold the files of this digest"})
			continue
		}
		list, err := b.options.Exceptions(ctx, snapshot)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			list = []pack.Exception{{Unreadable: audit.Text(err.Error(), 1000)}}
		}
		for _, e := range list {
			e.Revision = revision
			b.facts.Exceptions = append(b.facts.Exceptions, e)
		}
	}
	return nil
}
