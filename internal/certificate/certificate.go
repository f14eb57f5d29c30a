// Package certificate serves a TLS certificate from its files and loads it again when
// the files change, so that a renewal needs no restart.
package certificate

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// checkInterval is the least time between two checks of the files.
const checkInterval = time.Second

// Certificate is a listener's certificate. Each handshake uses the current one, and
// checks the files at most once per second. It is safe for concurrent use.
type Certificate struct {
	certificateFile, keyFile string
	log                      *slog.Logger

	mu      sync.Mutex
	current *tls.Certificate
	files   [2]version
	checked time.Time
}

// version identifies one content of a file.
type version struct {
	modified time.Time
	size     int64
}

// Load loads a certificate and its key, both PEM.
func Load(certificateFile, keyFile string, log *slog.Logger) (*Certificate, error) {
	c := &Certificate{certificateFile: certificateFile, keyFile: keyFile, log: log}
	pair, err := tls.LoadX509KeyPair(certificateFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("load certificate %s with key %s: %w", certificateFile, keyFile, err)
	}
	c.current, c.files, c.checked = &pair, c.versions(), time.Now()
	return c, nil
}

// TLSConfig returns the configuration of a listener that serves the certificate.
func (c *Certificate) TLSConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return c.get(time.Now()), nil
		},
	}
}

func (c *Certificate) get(now time.Time) *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.checked) < checkInterval {
		return c.current
	}
	c.checked = now
	files := c.versions()
	if files == c.files {
		return c.current
	}
	pair, err := tls.LoadX509KeyPair(c.certificateFile, c.keyFile)
	if err != nil {
		// One of the two files may be replaced already: the old pair serves until both fit.
		c.log.Error("certificate reload failed; keeping current certificate", "certificate_file", c.certificateFile, "error", err)
		return c.current
	}
	c.current, c.files = &pair, files
	c.log.Info("certificate loaded", "certificate_file", c.certificateFile)
	return c.current
}

func (c *Certificate) versions() (v [2]version) {
	for i, name := range []string{c.certificateFile, c.keyFile} {
		if info, err := os.Stat(name); err == nil {
			v[i] = version{info.ModTime(), info.Size()}
		}
	}
	return v
}
