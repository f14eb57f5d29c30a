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

// checkInterval is the least time between two checks of a file.
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

// Open reads a secret for the first time. An error means that there is none to begin with.
func Open[T any](s Source, parse func(string) (T, error), log *slog.Logger) (*Secret[T], error) {
	o := &Secret[T]{source: s, parse: parse, log: log, now: time.Now}
	if o.log == nil {
		o.log = slog.New(slog.DiscardHandler)
	}
	before := o.version()
	secret, err := o.load()
	if err != nil {
		return nil, err
	}
	o.current, o.read, o.checked = secret, before, o.now()
	return o, nil
}

func (o *Secret[T]) load() (secret T, err error) {
	text, err := o.source.Read()
	if err != nil {
		return secret, err
	}
	if secret, err = o.parse(text); err != nil {
		return secret, fmt.Errorf("the secret in %s: %w", o.source.File(), err)
	}
	return secret, nil
}

// Get returns the secret that is in force.
func (o *Secret[T]) Get() T {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.now()
	if now.Sub(o.checked) < checkInterval && !now.Before(o.checked) {
		return o.current
	}
	o.checked = now
	// The version is that before the content: a change in between is seen at the next check.
	version := o.version()
	if version == o.read && o.err == nil {
		return o.current
	}
	secret, err := o.load()
	if err != nil {
		if o.err == nil || o.err.Error() != err.Error() {
			o.log.Error("secret reload failed; keeping the last good secret", "file", o.source.File(), "error", err)
		}
		o.err = err
		return o.current
	}
	o.current, o.read, o.err = secret, version, nil
	o.log.Info("secret loaded", "file", o.source.File())
	return o.current
}

// Err returns why the file's present content is not in force; nil: it is.
func (o *Secret[T]) Err() error {
	o.Get()
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// Modified returns when the file was last changed; the zero time where that is not known.
func (o *Secret[T]) Modified() time.Time {
	info, err := os.Stat(o.source.File())
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

func (o *Secret[T]) version() version {
	info, err := os.Stat(o.source.File())
	if err != nil {
		return version{}
	}
	v := version{modified: info.ModTime(), size: info.Size()}
	v.changed, v.inode = inode(info)
	return v
}
