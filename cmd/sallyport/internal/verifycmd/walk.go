package verifycmd

import (
	"context"

	auditlog "github.com/sallyport/sallyport/audit/postgres"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
)

func walkURL(ctx context.Context, url string, sink auditlog.Sink, p *cli.Progress) error {
	r, err := auditlog.OpenReader(ctx, url)
	if err != nil {
		return err
	}
	defer r.Close()
	p.Total = r.Leaves()
	return r.Walk(ctx, sink, p.Show)
}
