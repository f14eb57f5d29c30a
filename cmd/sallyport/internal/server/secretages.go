package server

import (
	"os"
	"path/filepath"
	"time"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/components"
	"github.com/sallyport/sallyport/internal/config"
)

// secretGauges adds the time of the last change of each secret's file. Receivers and agents
// have metrics of their own.
func (s *server) secretGauges() {
	files := s.config.SecretFiles()
	if s.config.Audit.SigningKey.IsZero() {
		files = append(files, config.SecretFile{Key: "audit.signing_key_file", Path: filepath.Join(s.config.DataDirectory, components.KeyFile)})
	}
	for _, f := range files {
		s.metrics.GaugeOf("sallyport_secret_changed_timestamp_seconds", "When the file of a secret was last changed, by the configuration's key; 0: it cannot be read.",
			map[string]string{"secret": f.Key}, func() float64 { return unixSeconds(changed(f.Path)) })
	}
}

// changed returns when a file was last changed; zero: there is none, or its folder cannot be
// read.
func changed(path string) time.Time {
	info, err := os.Stat(path)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}
