package server

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificates serves a listener's certificate and takes a new one when its
// files change, so that a renewal needs no restart. It is asked for at every
// handshake, and checks the files at most once a second.
type certificates struct {
	certificateFile, keyFile string
	log                      *slog.Logger

	mu      sync.Mutex
	current *tls.Certificate
	seen    [2]stamp
	looked  time.Time
}

// stamp tells one state of a file from another.
type stamp struct {
	modified time.Time
	size     int64
}

func newCertificates(certificateFile, keyFile string, log *slog.Logger) (*certificates, error) {
	c := &certificates{certificateFile: certificateFile, keyFile: keyFile, log: log}
	pair, err := tls.LoadX509KeyPair(certificateFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("load certificate %s with key %s: %w", certificateFile, keyFile, err)
	}
	c.current, c.seen, c.looked = &pair, c.stamps(), time.Now()
	return c, nil
}

func (c *certificates) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return c.get(time.Now()), nil
		},
	}
}

func (c *certificates) get(now time.Time) *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.looked) < time.Second {
		return c.current
	}
	c.looked = now
	seen := c.stamps()
	if seen == c.seen {
		return c.current
	}
	pair, err := tls.LoadX509KeyPair(c.certificateFile, c.keyFile)
	if err != nil {
		// Half of a pair may be written: the old one serves until both fit.
		c.log.Error("certificate reload failed; keeping current certificate", "certificate_file", c.certificateFile, "error", err)
		return c.current
	}
	c.current, c.seen = &pair, seen
	c.log.Info("certificate loaded", "certificate_file", c.certificateFile)
	return c.current
}

func (c *certificates) stamps() (s [2]stamp) {
	for i, name := range []string{c.certificateFile, c.keyFile} {
		if info, err := os.Stat(name); err == nil {
			s[i] = stamp{info.ModTime(), info.Size()}
		}
	}
	return s
}
