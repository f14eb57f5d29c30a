package auditdb

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	identitypg "github.com/sallyport/sallyport/identity/postgres"
	"github.com/sallyport/sallyport/internal/pgembed"
)

// completionTimeout bounds how long a shell waits for names.
const completionTimeout = 2 * time.Second

// CompleteNames completes a flag with names from the database of f. It offers none
// if the database is unavailable, and does not start an embedded one.
func (f Flags) CompleteNames(c *cobra.Command, flag string, kind identitypg.NameKind) {
	cli.CompleteBy(c, flag, func(ctx context.Context, typed string) ([]string, error) {
		ctx, cancel := context.WithTimeout(ctx, completionTimeout)
		defer cancel()
		url, done, err := f.openRunning(ctx)
		if err != nil {
			return nil, err
		}
		defer done()
		return identitypg.CompleteNames(ctx, url, kind, strings.ToLower(typed))
	})
}

// openRunning is Open for a database that is running.
func (f Flags) openRunning(ctx context.Context) (url string, done func(), err error) {
	if *f.URLFile == "" {
		cfg, _, err := cli.LoadConfig(*f.Config)
		if err != nil {
			return "", nil, err
		}
		if cfg.Audit.Embedded {
			endpoint, err := pgembed.Locate(EmbeddedDirectory(cfg))
			if err != nil {
				return "", nil, err
			}
			return endpoint.URL(EmbeddedDatabase, Roles["auditor"]), func() {}, nil
		}
	}
	return f.Open(ctx)
}
