package auditdb

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	auditsealer "github.com/sallyport/sallyport/audit/postgres/sealer"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/internal/pgembed"
)

// UseGaps opens the database that the flags name.
func (f OwnerFlags) UseGaps(ctx context.Context, act func(*auditsealer.Gaps) error) error {
	url, done, err := f.open(ctx)
	if err != nil {
		return err
	}
	defer done()
	g, err := auditsealer.OpenGaps(ctx, url)
	if err != nil {
		return err
	}
	defer g.Close()
	return act(g)
}

// MigrationURL reads the connection string of the login that acts as the owner.
func MigrationURL(cfg *config.Config) (string, error) {
	if cfg.Audit.Migration.IsZero() {
		return "", cli.Invalid(errors.New("audit.migration_url_file is not set: name a file with the connection string of a login that is a member of sallyport_owner"))
	}
	url, err := cfg.Audit.Migration.Read()
	if err != nil {
		return "", cli.Invalid(fmt.Errorf("audit.migration_url_file: %w", err))
	}
	return url, nil
}

// OwnerFlags select the database to act on, and the login to act with.
type OwnerFlags struct {
	Config  *string
	URLFile *string
}

// AddOwnerFlags adds the flags that name the database, for a login that acts as its owner.
func AddOwnerFlags(c *cobra.Command) OwnerFlags {
	return OwnerFlags{
		Config:  cli.AddConfigFlag(c),
		URLFile: c.Flags().String("database-url-file", "", "`FILE` with the connection string of the login to act with; no configuration is read then"),
	}
}

// Use opens the database for retention and holds, for the time of act.
func (f OwnerFlags) Use(ctx context.Context, act func(*auditsealer.Retention) error) error {
	url, done, err := f.open(ctx)
	if err != nil {
		return err
	}
	defer done()
	r, err := auditsealer.OpenRetention(ctx, url)
	if err != nil {
		return err
	}
	defer r.Close()
	return act(r)
}

// open returns the connection string of a login that may act as the log's owner.
func (f OwnerFlags) open(ctx context.Context) (url string, done func(), err error) {
	if *f.URLFile != "" {
		return Flags{URLFile: f.URLFile}.Open(ctx)
	}
	cfg, _, err := cli.LoadConfig(*f.Config)
	if err != nil {
		return "", func() {}, err
	}
	if !cfg.Audit.Embedded {
		url, err = MigrationURL(cfg)
		return url, func() {}, err
	}
	url, _, done, err = Connection(ctx, cfg, pgembed.Superuser)
	return url, done, err
}
