package auditdb

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/config"
)

// Flags select the database to read.
type Flags struct {
	Config  *string
	URLFile *string
}

// AddFlags adds the flags that name the database of the audit log.
func AddFlags(c *cobra.Command) Flags {
	return Flags{
		Config:  cli.AddConfigFlag(c),
		URLFile: c.Flags().String("database-url-file", "", "`FILE` with the connection string of a login that may read the log; no configuration is read then"),
	}
}

// Open returns the connection string of the log, as an auditor where that is for
// us to choose. done ends what was started for it.
func (f Flags) Open(ctx context.Context) (url string, done func(), err error) {
	done = func() {}
	if *f.URLFile != "" {
		raw, err := cli.ReadInput(ctx, *f.URLFile, cli.MaxSecretInput)
		if err != nil {
			return "", done, cli.Invalid(fmt.Errorf("--database-url-file %w", err))
		}
		return strings.TrimSpace(string(raw)), done, nil
	}
	cfg, _, err := cli.LoadConfig(*f.Config)
	if err != nil {
		return "", done, err
	}
	return URL(ctx, cfg, Roles["auditor"])
}

// URL is Connection for our own connections.
func URL(ctx context.Context, cfg *config.Config, role string) (url string, done func(), err error) {
	if !cfg.Audit.Embedded {
		if url, err = cfg.Audit.Database.Read(); err != nil {
			err = cli.Invalid(fmt.Errorf("audit.database_url_file: %w", err))
		}
		return url, func() {}, err
	}
	url, _, done, err = Connection(ctx, cfg, role)
	return url, done, err
}
