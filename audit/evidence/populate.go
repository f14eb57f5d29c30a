package evidence

import (
	"bufio"
	"context"
	"errors"
	"fmt"

	"github.com/sallyport/sallyport/audit"
)

// decisions writes the population, in the order of time.
func (b *builder) decisions(ctx context.Context) error {
	lines, err := b.folder.createCompressed(populationFile)
	if err != nil {
		return err
	}
	defer lines.drop()
	sheet, err := b.folder.create(spreadsheet)
	if err != nil {
		return err
	}
	defer sheet.drop()
	p := &b.population
	p.sections, p.revisions, p.sample.size = beginSections(), b.revisions, b.options.Sample
	if err := audit.NewCSV(sheet).Write(populationColumns...); err != nil {
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
	next := func() (func() ([]prepared, error), error) {
		first, last := from, b.spool.batchEnd(from)
		if from = last; first == last {
			return nil, nil
		}
		return func() ([]prepared, error) { return b.batch(first, last) }, nil
	}
	err = inOrder(ctx, next, func(one *prepared) error {
		if one.err != nil {
			return one.err
		}
		p.take(one)
		_, err1 := lines.Write(one.line)
		_, err2 := sheet.Write(one.row)
		if p.count%1024 == 0 {
			b.options.Progress("decisions of the period", p.count)
		}
		return errors.Join(err1, err2)
	})
	if err := errors.Join(err, <-counted); err != nil {
		return err
	}
	b.options.Progress("decisions of the period", p.count)
	b.agree(byColumns)
	return errors.Join(lines.close(p.count), sheet.close(p.count-p.bad))
}

// batch prepares the decisions from one place in the order to before another.
func (b *builder) batch(first, last int) ([]prepared, error) {
	pairs, err := b.spool.batch(first, last)
	if err != nil {
		return nil, err
	}
	list := make([]prepared, 0, len(pairs))
	for _, p := range pairs {
		one := prepare(p)
		one.line = appendPair(make([]byte, 0, len(p.Record)+len(p.EndRecord)+64), &p)
		list = append(list, one)
	}
	return list, nil
}

// agree compares the population with the columns of the database. A column that was changed
// hides a decision from who asks for it by its time.
func (b *builder) agree(byColumns int64) {
	f, p := &b.facts, &b.population
	f.Unreadable += p.bad
	if f.Selected != byColumns || f.Selected != p.count || f.Digest != p.digest.String() {
		f.Result.Sound = false
		f.Result.Findings = append(f.Result.Findings, fmt.Sprintf(
			"population_differs: by their columns the period has %d sealed decisions, by their records %d, and the population %d", byColumns, f.Selected, p.count))
	}
}

// replay gives the events that the walk kept to the sections, which want them after
// the decisions.
func (b *builder) replay(ctx context.Context) error {
	file, err := b.folder.root.Open(eventsFile)
	if err != nil {
		return err
	}
	defer file.Close()
	in := bufio.NewScanner(file)
	in.Buffer(make([]byte, 1<<16), maxLine)
	for in.Scan() {
		pair, err := readPair(in.Bytes())
		if err != nil {
			return fmt.Errorf("read %s: %w", eventsFile, err)
		}
		s, err := b.population.event(pair.Leaf, pair.Record, b.facts.Period)
		if err != nil {
			b.facts.Unreadable++
			continue
		}
		b.provenance.event(pair.Leaf, pair.Record)
		if s.Kind == string(audit.KindPolicyLoaded) && b.facts.Period.within(s.Time) {
			b.revisions[s.Revision] = s.Commit
		}
	}
	return errors.Join(in.Err(), ctx.Err())
}
