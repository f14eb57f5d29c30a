package components

import (
	"errors"
	"fmt"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/identity/bitbucket"
	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/proxy/dns"
)

// Validate makes everything of a configuration that can be made without a
// database, a network or a file that is written. `serve` and `config check` both
// call it, so that neither accepts what the other refuses. The error has all that
// is wrong, one line each, and is [cli.InvalidError].
func Validate(cfg *config.Config) error {
	var errs []error
	for _, s := range []struct {
		key    string
		secret config.Secret
	}{{"audit.database_url_file", cfg.Audit.Database}, {"audit.sealer_database_url_file", cfg.Audit.Sealer}} {
		if s.secret.IsZero() {
			continue
		}
		text, err := s.secret.Read()
		if err == nil {
			_, err = database.ParseConfig(text, "sallyport")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s (%s): %w", s.key, s.secret, err))
		}
	}
	for _, try := range []func() error{
		func() error { return checkDataDirectory(cfg) },
		func() error { return checkEmergencyStop(cfg.DataDirectory) },
		func() error { _, err := Signer(cfg); return err },
		func() error { _, err := Publishers(cfg); return err },
		func() error { _, err := UpstreamProxies(cfg.Egress.UpstreamProxies); return err },
		func() error { _, err := dns.New(dns.Config{Servers: AddressTexts(cfg.Egress.Resolvers)}); return err },
		func() error {
			inspector, err := bitbucket.NewInspector(Identity(cfg), bitbucket.Deps{})
			if err == nil {
				inspector.Close()
			}
			return err
		},
	} {
		if err := try(); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return cli.Invalid(fmt.Errorf("the configuration is not accepted, nothing was started\n%w", errors.Join(errs...)))
}
