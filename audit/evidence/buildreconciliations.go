package evidence

import "context"

// reconciliations writes what the reconciliations found that events name.
func (b *builder) reconciliations(ctx context.Context) error {
	lines, err := b.folder.create(reconciliationsFile)
	if err != nil {
		return err
	}
	defer lines.drop()
	var line []byte
	written := int64(0)
	for _, r := range b.population.reconciled {
		var rows []string
		if isID(r.id()) {
			if rows, err = b.log.Findings(ctx, r.id()); err != nil {
				return err
			}
		}
		for _, row := range rows {
			line = appendFound(line[:0], r.leaf, row)
			if _, err := lines.Write(line); err != nil {
				return err
			}
			written++
		}
		b.population.found(r, rows)
		if !r.unchanged {
			b.facts.Result.Sound = false
			b.facts.Result.Findings = append(b.facts.Result.Findings, r.changed())
		}
		b.options.Progress("findings of reconciliations", written)
	}
	return lines.close(written)
}
