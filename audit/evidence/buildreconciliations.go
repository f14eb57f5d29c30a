package evidence

import (
	"context"

	"github.com/sallyport/sallyport/audit/evidence/pack"
)

// reconciliations writes what the reconciliations found that events name.
func (b *builder) reconciliations(ctx context.Context) error {
	lines, err := b.folder.create(pack.ReconciliationsFile)
	if err != nil {
		return err
	}
	defer lines.drop()
	var line []byte
	written := int64(0)
	for _, r := range b.population.Reconciled {
		var rows []string
		if pack.IsID(r.ID()) {
			if rows, err = b.log.Findings(ctx, r.ID()); err != nil {
				return err
			}
		}
		for _, row := range rows {
			line = pack.AppendFinding(line[:0], r.Leaf, row)
			if _, err := lines.Write(line); err != nil {
				return err
			}
			written++
		}
		b.population.AddFindings(r, rows)
		if !r.Unchanged && b.population.ShowsKey(r.Writer, &b.facts) {
			b.facts.Result.Sound = false
			b.facts.Result.Findings = append(b.facts.Result.Findings, r.Damage())
		}
		b.options.Progress("findings of reconciliations", written)
	}
	return lines.close(written)
}
