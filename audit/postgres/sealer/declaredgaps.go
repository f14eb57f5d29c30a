package sealer

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
)

const declaredGapsSQL = `SELECT g.writer, g.first, g.last, g.declaration, e.record, l.index FROM audit.declared_gaps g
	JOIN audit.leaves l ON l.writer = '` + audit.DatabaseWriter + `' AND l.writer_sequence = g.declaration
	JOIN audit.events e ON e.writer = '` + audit.DatabaseWriter + `' AND e.writer_sequence = g.declaration`

// declaredGaps reads the declarations that are sealed. One that does not hold
// accounts for nothing; verify reports it.
func (s *Sealer) declaredGaps(ctx context.Context, tx pgx.Tx) (steppedOver, error) {
	rows, err := tx.Query(ctx, declaredGapsSQL)
	if err != nil {
		return nil, fmt.Errorf("read declared gaps: %w", err)
	}
	type row struct {
		audit.GapDeclaration
		number int64
	}
	var all []row
	var writer string
	var first, last, number, index int64
	var record []byte
	if _, err := pgx.ForEachRow(rows, []any{&writer, &first, &last, &number, &record, &index}, func() error {
		d, ok := audit.GapDeclarationOf(record)
		d.Index = index
		if ok && d.Writer == writer && d.First == first && d.Last == last {
			all = append(all, row{d, number})
		}
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read declared gaps: %w", err)
	}
	over := make(steppedOver)
	for _, d := range all {
		valid, known := s.gapValid[d.number]
		if !known {
			if !s.keys.complete { // the next step determines that
				continue
			}
			if valid, err = s.holds(ctx, tx, d.GapDeclaration); err != nil {
				return nil, err
			}
			if s.gapValid == nil {
				s.gapValid = make(map[int64]bool)
			}
			s.gapValid[d.number] = valid
			if !valid {
				s.log.Error("a declaration of missing events is not signed by the key that sealed it, and does not count",
					"writer", audit.Text(d.Writer, 200), "first", d.First, "last", d.Last, "event", d.number)
			}
		}
		if valid {
			over[d.Writer] = append(over[d.Writer], d.GapDeclaration)
		}
	}
	return over, nil
}

// holds reports whether a declaration is signed by the key that signed the first
// checkpoint over it, as audit.Verification demands.
func (s *Sealer) holds(ctx context.Context, tx pgx.Tx, d audit.GapDeclaration) (bool, error) {
	if !d.Signed() {
		return false, nil
	}
	keys := s.keys.keys()
	rows, err := tx.Query(ctx, `SELECT note FROM audit.checkpoints WHERE size > $1 ORDER BY size, number LIMIT 100`, d.Index)
	if err != nil {
		return false, fmt.Errorf("read the checkpoint over a declared gap: %w", err)
	}
	notes, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return false, fmt.Errorf("read the checkpoint over a declared gap: %w", err)
	}
	for _, note := range notes {
		if _, by, err := audit.OpenCheckpoint([]byte(note), keys...); err == nil {
			return by == d.Key, nil
		}
	}
	return false, nil
}
