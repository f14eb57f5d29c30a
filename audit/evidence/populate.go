package evidence

import (
	"bufio"
	"context"
	"errors"
	"fmt"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
	"github.com/sallyport/sallyport/audit/evidence/report"
)

// decisions writes the population, in the order of time.
func (b *builder) decisions(ctx context.Context) error {
	lines, err := b.folder.createCompressed(pack.PopulationFile)
	if err != nil {
		return err
	}
	defer lines.drop()
	sheet, err := b.folder.create(pack.Spreadsheet)
	if err != nil {
		return err
	}
	defer sheet.drop()
	p := &b.population
	p.Sections, p.Revisions, p.Sample.Size = report.NewSections(), b.revisions, b.options.Sample
	if err := audit.NewCSV(sheet).Write(report.PopulationColumns...); err != nil {
		return err
	}
	if err := b.spool.finish(); err != nil {
		return err
	}
	counted := make(chan error, 1)
	byColumns := int64(0)
	go func() { // the database has nothing else to do meanwhile
		var err error
		byColumns, err = b.log.Count(ctx, b.selection())
		counted <- err
	}()
	from := 0
	next := func() (func() ([]report.Prepared, error), error) {
		first, last := from, b.spool.batchEnd(from)
		if from = last; first == last {
			return nil, nil
		}
		return func() ([]report.Prepared, error) { return b.batch(first, last) }, nil
	}
	err = report.InOrder(ctx, next, func(one *report.Prepared) error {
		if one.Err != nil {
			return one.Err
		}
		p.Add(one)
		_, err1 := lines.Write(one.Line)
		_, err2 := sheet.Write(one.Row)
		if p.Count%1024 == 0 {
			b.options.Progress("decisions of the period", p.Count)
		}
		return errors.Join(err1, err2)
	})
	if err := errors.Join(err, <-counted); err != nil {
		return err
	}
	b.options.Progress("decisions of the period", p.Count)
	b.agree(byColumns)
	return errors.Join(lines.close(p.Count), sheet.close(p.Count-p.Unreadable))
}

// batch prepares the decisions from one place in the order to before another.
func (b *builder) batch(first, last int) ([]report.Prepared, error) {
	pairs, err := b.spool.batch(first, last)
	if err != nil {
		return nil, err
	}
	list := make([]report.Prepared, 0, len(pairs))
	for _, p := range pairs {
		one := report.Prepare(p)
		one.Line = pack.AppendPair(make([]byte, 0, len(p.Record)+len(p.EndRecord)+64), &p)
		list = append(list, one)
	}
	return list, nil
}

// agree compares the population with the columns of the database. A column that was changed
// hides a decision from who asks for it by its time.
func (b *builder) agree(byColumns int64) {
	f, p := &b.facts, &b.population
	f.Unreadable += p.Unreadable
	if f.Selected != byColumns || f.Selected != p.Count || f.Digest != p.Digest.String() {
		f.Result.Sound = false
		f.Result.Findings = append(f.Result.Findings, fmt.Sprintf(
			"population_differs: by their columns the period has %d sealed decisions, by their records %d, and the population %d", byColumns, f.Selected, p.Count))
	}
}

// replay gives the events that the walk kept to the sections, which want them after
// the decisions.
func (b *builder) replay(ctx context.Context) error {
	file, err := b.folder.root.Open(pack.EventsFile)
	if err != nil {
		return err
	}
	defer file.Close()
	in := bufio.NewScanner(file)
	in.Buffer(make([]byte, 1<<16), pack.MaxLine)
	for in.Scan() {
		pair, err := pack.ReadPair(in.Bytes())
		if err != nil {
			return fmt.Errorf("read %s: %w", pack.EventsFile, err)
		}
		s, err := b.population.Event(pair.Leaf, pair.Record, b.facts.Period)
		if err != nil {
			b.facts.Unreadable++
			continue
		}
		b.provenance.Add(pair.Leaf, pair.Record)
		if s.Kind == string(audit.KindPolicyLoaded) && b.facts.Period.Contains(s.Time) {
			b.revisions[s.Revision] = s.Commit
		}
	}
	return errors.Join(in.Err(), ctx.Err())
}
