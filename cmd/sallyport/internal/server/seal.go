package server

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/sallyport/sallyport/audit"
	auditsealer "github.com/sallyport/sallyport/audit/postgres/sealer"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/components"
)

// openSealer makes the sealer; run starts it. It is closed after the log, so
// that the event of this writer's end is sealed too.
func (s *server) openSealer() error {
	signer, err := components.Signer(s.config)
	if err != nil {
		return err
	}
	places, err := components.Publishers(s.config)
	if err != nil {
		return err
	}
	c := auditsealer.Config{
		URL: s.sealerURL, Log: s.log.With("component", "seal"), Writer: s.audit.Writer, Record: s.audit.Record,
		Signer: signer, Publishers: places, Interval: s.config.Audit.Checkpoints.Interval,
	}
	c.ReadSigner = func() (*audit.Signer, error) { return components.Signer(s.config) }
	if s.config.Audit.SigningKey.IsZero() {
		path := filepath.Join(s.config.DataDirectory, components.KeyFile)
		c.NewSigner = func() (*audit.Signer, error) { return components.NewSigner(path, "") }
	}
	s.sealer, err = auditsealer.Open(c)
	return err
}

// closeSealer seals what is left and closes the sealer.
func (s *server) closeSealer() {
	if s.sealer == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if !s.sealing {
		// The start failed and has reported why: the next process seals the few new
		// events.
		cancel()
		_ = s.sealer.Close(ctx)
		return
	}
	if err := s.sealer.Close(ctx); err != nil && !errors.Is(err, auditsealer.ErrNoKey) {
		s.log.Warn("the end of the audit log is not sealed yet; the next process does it", "error", err)
	}
}

// signer reads this instance's key; nil: there is none.
func (s *server) signer() (*audit.Signer, error) { return components.Signer(s.config) }

// sealDetail is what /readyz reports of sealing. Failing sealing does not make an
// instance unready: events are recorded whether they are sealed yet or not. It is a
// warning there (sealWarning).
func (s *server) sealDetail() any {
	st := s.sealer.Status()
	detail := map[string]any{"size": st.Size, "checkpoint": cli.FormatTimeOrNever(st.Time), "last_success": cli.FormatTimeOrNever(st.LastSuccess)}
	if !st.UnsealedSince.IsZero() {
		detail["unsealed_since"] = cli.FormatTimeOrNever(st.UnsealedSince)
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
