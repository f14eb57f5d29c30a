package evidence

import (
	"context"

	"github.com/sallyport/sallyport/audit/evidence/pack"
	"github.com/sallyport/sallyport/audit/evidence/report"
)

// access writes what is true of the database now.
func (b *builder) access(ctx context.Context) error {
	tables, err := b.log.Access(ctx, b.options.Period.From, b.options.Period.To)
	if err != nil {
		return err
	}
	for _, t := range tables {
		if err := b.folder.write(pack.CurrentFolder+t.Name+".csv", int64(len(t.Rows)), func(o *output) error { return t.Write(o) }); err != nil {
			return err
		}
	}
	return b.folder.write(pack.CurrentFolder+"access.html", -1, func(o *output) error { return report.WriteAccessPage(o, b.database, tables) })
}
