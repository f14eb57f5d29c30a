// Package secretfile reads a secret again when its file changes, so that a rotation needs
// no restart.
package secretfile

import (
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// checkInterval is the minimum time between two checks of a file.
const checkInterval = time.Second

// Source is the place of a secret, such as config.Secret.
type Source interface {
	// Read returns the secret as it is now. An empty secret is an error.
	Read() (string, error)
	// File returns the path of the secret's file; empty: it is not in a file.
	File() string
}

// Secret is a secret of type T whose file is checked at most once per second. A file that
// cannot be used, or is empty, leaves the last good secret in force, and is logged. It is
// safe for concurrent use.
type Secret[T any] struct {
	source Source
	parse  func(string) (T, error)
	log    *slog.Logger
	now    func() time.Time

	mu      sync.Mutex
	current T
	read    version
	checked time.Time
	err     error // of the latest read; nil: current is that of the file
}

// version identifies one content of a file.
type version struct {
	modified, changed time.Time
	size              int64
	inode             uint64
}

// Open reads a secret for the first time. It returns an error if the file has no usable secret.
func Open[T any](source Source, parse func(string) (T, error), log *slog.Logger) (*Secret[T], error) {
	s := &Secret[T]{source: source, parse: parse, log: log, now: time.Now}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	before := s.version()
	secret, err := s.load()
	if err != nil {
		return nil, err
	}
	s.current, s.read, s.checked = secret, before, s.now()
	return s, nil
}

func (s *Secret[T]) load() (secret T, err error) {
	text, err := s.source.Read()
	if err != nil {
		return secret, err
	}
	if secret, err = s.parse(text); err != nil {
		return secret, fmt.Errorf("the secret in %s: %w", s.source.File(), err)
	}
	return secret, nil
}

// Get returns the secret that is in force.
func (s *Secret[T]) Get() T {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if now.Sub(s.checked) < checkInterval && !now.Before(s.checked) {
		return s.current
	}
	s.checked = now
	// The version is read before the content: the next check finds a change in between.
	version := s.version()
	if version == s.read && s.err == nil {
		return s.current
	}
	secret, err := s.load()
	if err != nil {
		if s.err == nil || s.err.Error() != err.Error() {
			s.log.Error("secret reload failed; keeping the last good secret", "file", s.source.File(), "error", err)
		}
		s.err = err
		return s.current
	}
	s.current, s.read, s.err = secret, version, nil
	s.log.Info("secret loaded", "file", s.source.File())
	return s.current
}

// Err returns why the file's present content is not in force; nil: it is.
func (s *Secret[T]) Err() error {
	s.Get()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Modified returns when the file was last changed; the zero time where that is not known.
func (s *Secret[T]) Modified() time.Time {
	info, err := os.Stat(s.source.File())
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

func (s *Secret[T]) version() version {
	info, err := os.Stat(s.source.File())
	if err != nil {
		return version{}
	}
	v := version{modified: info.ModTime(), size: info.Size()}
	v.changed, v.inode = inode(info)
	return v
}
