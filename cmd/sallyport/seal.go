package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/sallyport/sallyport/audit"
	auditlog "github.com/sallyport/sallyport/audit/postgres"
	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/internal/publish"
)

// What the sealer keeps in data_directory.
const (
	keyFile         = "checkpoint-key"
	checkpointsFile = "checkpoints"
)

// openSealer makes the sealer; run starts it. It is closed after the log, so
// that the event of this writer's end is sealed too.
func (s *server) openSealer() error {
	signer, err := configuredSigner(s.config)
	if err != nil {
		return err
	}
	places, err := publishers(s.config)
	if err != nil {
		return err
	}
	c := auditlog.SealerConfig{
		URL: s.sealerURL, Log: s.log.With("component", "seal"), Writer: s.audit.Writer, Record: s.audit.Record,
		Signer: signer, Publishers: places, Interval: s.config.Audit.Checkpoints.Interval,
	}
	c.ReadSigner = func() (*audit.Signer, error) { return configuredSigner(s.config) }
	if s.config.Audit.SigningKey.IsZero() {
		path := filepath.Join(s.config.DataDirectory, keyFile)
		c.NewSigner = func() (*audit.Signer, error) { return makeKey(path, "") }
	}
	s.sealer, err = auditlog.OpenSealer(c)
	return err
}

func (s *server) closeSealer() {
	if s.sealer == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if !s.sealing {
		// The start failed, and its own message says why: what little there is to
		// seal is the next process's.
		cancel()
		_ = s.sealer.Close(ctx)
		return
	}
	if err := s.sealer.Close(ctx); err != nil && !errors.Is(err, auditlog.ErrNoKey) {
		s.log.Warn("the end of the audit log is not sealed yet; the next process does it", "error", err)
	}
}

// signer reads this instance's key; nil: there is none.
func (s *server) signer() (*audit.Signer, error) { return configuredSigner(s.config) }

// configuredSigner reads this instance's key: that of the configuration, or the
// one in data_directory. It is nil where there is none.
func configuredSigner(cfg *config.Config) (*audit.Signer, error) {
	if !cfg.Audit.SigningKey.IsZero() {
		private, err := cfg.Audit.SigningKey.Read()
		if err != nil {
			return nil, invalid{err}
		}
		signer, err := audit.ParseSigner(private)
		if err != nil {
			return nil, invalid{fmt.Errorf("audit.signing_key_file: %w", err)}
		}
		return signer, nil
	}
	path := filepath.Join(cfg.DataDirectory, keyFile)
	private, err := config.ReadRegular(path, maxSecretInput)
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

// makeKey makes a key in a file that is not there yet, so that it survives a
// power failure before anybody hears of it.
func makeKey(path, origin string) (_ *audit.Signer, err error) {
	private, err := audit.GenerateKey(origin)
	if err != nil {
		return nil, invalid{err}
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = f.WriteString(private + "\n")
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = syncDirectory(filepath.Dir(path))
	}
	if err != nil {
		_ = os.Remove(path)
		return nil, err
	}
	return audit.ParseSigner(private)
}

// publishers are the places that checkpoints go to: always data_directory, which
// is another one than the database's unless that is embedded.
func publishers(cfg *config.Config) ([]auditlog.Publisher, error) {
	c := cfg.Audit.Checkpoints
	places := []auditlog.Publisher{publish.NewFile(filepath.Join(cfg.DataDirectory, checkpointsFile))}
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
			return nil, invalid{fmt.Errorf("audit.checkpoints.urls: %w", err)}
		}
		places = append(places, publish.NewHTTP(u, token))
	}
	return places, nil
}

// sealDetail is what /readyz reports of sealing. Failing sealing does not make an
// instance unready: events are recorded whether they are sealed yet or not. It is a
// warning there (sealWarning).
func (s *server) sealDetail() any {
	st := s.sealer.Status()
	detail := map[string]any{"size": st.Size, "checkpoint": when(st.Time), "last_success": when(st.LastSuccess)}
	if !st.UnsealedSince.IsZero() {
		detail["unsealed_since"] = when(st.UnsealedSince)
	}
	if st.Err != nil {
		detail["error"], detail["reason"] = st.Err.Error(), st.Reason()
	}
	if len(st.Findings) > 0 {
		detail["stuck_writers"] = st.Findings
	}
	if len(st.Invalid) > 0 {
		detail["invalid_checkpoints"] = st.Invalid
	}
	places := make(map[string]any, len(st.Places))
	for _, p := range st.Places {
		place := map[string]any{"size": p.Size}
		if p.Err != nil {
			place["error"] = p.Err.Error()
		}
		places[p.Name] = place
	}
	detail["published"] = places
	return detail
}
