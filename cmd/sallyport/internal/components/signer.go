package components

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"github.com/sallyport/sallyport/audit"
	auditsealer "github.com/sallyport/sallyport/audit/postgres/sealer"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/internal/durable"
	"github.com/sallyport/sallyport/internal/publish"
)

// What the sealer keeps in data_directory.
const (
	KeyFile         = "checkpoint-key"
	CheckpointsFile = "checkpoints"
)

// Signer reads this instance's key: that of the configuration, or the
// one in data_directory. It is nil where there is none.
func Signer(cfg *config.Config) (*audit.Signer, error) {
	if !cfg.Audit.SigningKey.IsZero() {
		private, err := cfg.Audit.SigningKey.Read()
		if err != nil {
			return nil, cli.Invalid(err)
		}
		signer, err := audit.ParseSigner(private)
		if err != nil {
			return nil, cli.Invalid(fmt.Errorf("audit.signing_key_file: %w", err))
		}
		return signer, nil
	}
	path := filepath.Join(cfg.DataDirectory, KeyFile)
	private, err := config.ReadRegular(path, cli.MaxSecretInput)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the signing key in %s: %w", path, err)
	}
	signer, err := audit.ParseSigner(string(private))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return signer, nil
}

// NewSigner makes a key in a file that is not there yet, so that it survives a
// power failure before anybody hears of it.
func NewSigner(path, origin string) (_ *audit.Signer, err error) {
	private, err := audit.GenerateKey(origin)
	if err != nil {
		return nil, cli.Invalid(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make the signing key %s: %w: make its directory, or name a file that does not exist", path, errors.Unwrap(err))
	}
	_, err = f.WriteString(private + "\n")
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = durable.SyncDirectory(filepath.Dir(path))
	}
	if err != nil {
		_ = os.Remove(path)
		return nil, err
	}
	return audit.ParseSigner(private)
}

// Publishers are the places that checkpoints go to: always data_directory, which
// is another one than the database's unless that is embedded.
func Publishers(cfg *config.Config) ([]auditsealer.Publisher, error) {
	c := cfg.Audit.Checkpoints
	places := []auditsealer.Publisher{publish.NewFile(filepath.Join(cfg.DataDirectory, CheckpointsFile))}
	for _, path := range c.Files {
		places = append(places, publish.NewFile(path))
	}
	if c.Stdout {
		places = append(places, publish.NewWriter("standard output", os.Stdout))
	}
	var token func() (string, error)
	if !c.Token.IsZero() {
		token = c.Token.Read
	}
	for _, text := range c.URLs {
		u, err := url.Parse(text)
		if err != nil {
			return nil, cli.Invalid(fmt.Errorf("audit.checkpoints.urls: %w", err))
		}
		places = append(places, publish.NewHTTP(u, token))
	}
	return places, nil
}
