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
		URL: s.databaseURL, Log: s.log.With("component", "seal"), Writer: s.audit.Writer(), Record: s.audit.Record,
		Signer: signer, Publishers: places, Interval: s.config.Audit.Checkpoints.Interval,
	}
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
	private, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the signing key: %w", err)
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
	if c.StandardOutput {
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

// sealDetail is what /readyz tells of sealing. It decides nothing: what is
// recorded is let out whether it is sealed yet or not.
func (s *server) sealDetail() any {
	st := s.sealer.Status()
	detail := map[string]any{"size": st.Size, "checkpoint": when(st.Time)}
	if !st.Behind.IsZero() {
		detail["waiting_since"] = when(st.Behind)
	}
	if st.Err != nil {
		detail["error"] = st.Err.Error()
	}
	if len(st.Findings) > 0 {
		detail["not_sealed"] = st.Findings
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

func (s *server) sealGauges() {
	m := s.metrics
	m.Gauge("sallyport_sealed_size", "Events under the latest checkpoint.", func() float64 { return float64(s.sealer.Status().Size) })
	m.Counter("sallyport_sealed_total", "Events that this instance has sealed.", func() float64 { return float64(s.sealer.Status().Sealed) })
	m.Gauge("sallyport_seal_waiting_seconds", "Since when events wait to be sealed; 0: none do.", func() float64 {
		if behind := s.sealer.Status().Behind; !behind.IsZero() {
			return time.Since(behind).Seconds()
		}
		return 0
	})
	m.Gauge("sallyport_seal_failing", "1 while this instance cannot seal.", func() float64 { return one(s.sealer.Status().Err != nil) })
	m.Gauge("sallyport_seal_gaps", "Writers with a number that is missing or there twice, which cannot be sealed any further.", func() float64 {
		return float64(len(s.sealer.Status().Findings))
	})
	m.Gauge("sallyport_publish_failing", "Places that do not take checkpoints.", func() float64 {
		failing := 0
		for _, p := range s.sealer.Status().Places {
			if p.Err != nil {
				failing++
			}
		}
		return float64(failing)
	})
	m.Counter("sallyport_publish_failures_total", "Attempts to publish a checkpoint that failed.", func() float64 {
		var failed int64
		for _, p := range s.sealer.Status().Places {
			failed += p.Failed
		}
		return float64(failed)
	})
}
