package verifycmd

import (
	"context"

	auditreader "github.com/sallyport/sallyport/audit/postgres/reader"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
)

func walkURL(ctx context.Context, url string, sink auditreader.Sink, p *cli.Progress) error {
	r, err := auditreader.Open(ctx, url)
	if err != nil {
		return err
	}
	defer r.Close()
	p.Total = r.Leaves()
	return r.Walk(ctx, sink, p.Show)
}
