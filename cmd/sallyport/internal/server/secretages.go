package server

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/components"
	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/internal/secretages"
	"github.com/sallyport/sallyport/webhook"
)

// secretGauges adds the time of the last change of each secret's file. Receivers and agents
// have metrics of their own.
func (s *server) secretGauges() {
	for _, f := range s.withSigningKey(s.config.SecretFiles()) {
		s.metrics.GaugeOf("sallyport_secret_changed_timestamp_seconds", "When the file of a secret was last changed, by the configuration's key; 0: it cannot be read.",
			map[string]string{"secret": f.Key}, func() float64 { return unixSeconds(secretages.File(f.Path)) })
	}
}

// withSigningKey adds the signing key of the data directory, which the configuration does not
// name.
func (s *server) withSigningKey(files []config.SecretFile) []config.SecretFile {
	if s.config.Audit.SigningKey.IsZero() {
		return append(files, config.SecretFile{Key: "audit.signing_key_file", Kind: config.SigningKey, Path: filepath.Join(s.config.DataDirectory, components.KeyFile)})
	}
	return files
}

// recordSecretAges records the ages of secrets until ctx ends.
func (s *server) recordSecretAges(ctx context.Context) {
	secretages.New(secretages.Config{Ages: s.secretAges, Record: s.audit.Record, Log: s.log.With("component", "secrets")}).Run(ctx)
}

// secretAges returns when each secret of this instance was last changed: those of the
// configuration, and the valid credentials of webhook agents. The previous secret of a
// receiver or an endpoint is among them only during a rotation.
func (s *server) secretAges(ctx context.Context) ([]audit.SecretAge, error) {
	var ages []audit.SecretAge
	for _, f := range s.withSigningKey(s.config.Secrets()) {
		a := audit.SecretAge{Name: f.Key, Kind: string(f.Kind)}
		switch {
		case f.Kind == config.PreviousSecret && isUnused(f.Secret):
			continue
		case f.Kind == config.Certificate:
			a.Since, a.Expires = secretages.Certificate(f.Path)
		case f.Path != "":
			a.Since = secretages.File(f.Path)
		}
		ages = append(ages, a)
	}
	if store, _ := s.agentCredentials(); store != nil {
		list, err := store.List(ctx)
		if err != nil {
			return nil, fmt.Errorf("list the credentials of agents: %w", err)
		}
		for _, c := range list {
			if c.RevokedAt.IsZero() {
				ages = append(ages, audit.SecretAge{Name: "webhooks.endpoints[" + c.Endpoint + "].agent[" + c.ID + "]", Kind: string(config.AgentCredential), Since: c.CreatedAt})
			}
		}
	}
	return ages, nil
}

// isUnused reports whether a previous secret is the placeholder of the time between two
// rotations.
func isUnused(s config.Secret) bool {
	text, err := s.Read()
	return err == nil && strings.HasPrefix(text, webhook.UnusedSecretPrefix)
}
