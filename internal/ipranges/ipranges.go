// Package ipranges has the networks that Atlassian publishes for Bitbucket's outbound
// connections, which include webhooks. It fetches the list and keeps the last one on disk.
package ipranges

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/age"
	"github.com/sallyport/sallyport/internal/durable"
	"github.com/sallyport/sallyport/internal/pause"
)

// URL is the address of the list.
const URL = "https://ip-ranges.atlassian.com/"

const (
	fetchTimeout  = 30 * time.Second
	fetchInterval = time.Hour
	retryInterval = time.Minute // after the first error; doubled up to fetchInterval
	maxStored     = 1 << 20     // bytes
)

// Config configures a [List].
type Config struct {
	// Fetch returns the document at URL.
	Fetch func(ctx context.Context, url string) ([]byte, error)
	// File is where the last list is kept; its modification time is when it was fetched.
	// Empty: nowhere.
	File string
	Log  *slog.Logger     // nil: none
	Now  func() time.Time // nil: time.Now
}

// List is the published list. Until one was fetched or read, it contains no address. It is
// safe for concurrent use.
type List struct {
	config Config

	mu       sync.RWMutex
	networks []netip.Prefix
	fetched  time.Time
	err      error // of the latest attempt
}

// Open returns a list with the content of the file, if there is one.
func Open(c Config) *List {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	l := &List{config: c}
	if err := l.load(); err != nil && !errors.Is(err, os.ErrNotExist) {
		c.Log.Warn("stored list of networks ignored", "file", c.File, "error", err)
	}
	return l
}

// load reads the file.
func (l *List) load() error {
	if l.config.File == "" {
		return os.ErrNotExist
	}
	now := l.config.Now()
	info, err := os.Lstat(l.config.File)
	if err != nil {
		return err
	}
	switch {
	case !info.Mode().IsRegular() || info.Size() > maxStored:
		return errors.New("the file is not a regular file of at most 1 MiB")
	case age.Exceeds(info.ModTime(), now, math.MaxInt64):
		return errors.New("the file's modification time is in the future")
	}
	document, err := os.ReadFile(l.config.File)
	if err != nil {
		return err
	}
	networks, err := Parse(document)
	if err != nil {
		return err
	}
	l.networks, l.fetched = networks, age.Anchor(info.ModTime(), now)
	return nil
}

// Contains reports whether the address is in a network of the list, and the list is not
// older than maxAge. A list from the future of a clock that was set back is too old.
func (l *List) Contains(a netip.Addr, maxAge time.Duration) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.fetched.IsZero() || age.Exceeds(l.fetched, l.config.Now(), maxAge) {
		return false
	}
	a = a.Unmap()
	return slices.ContainsFunc(l.networks, func(n netip.Prefix) bool { return n.Contains(a) })
}

// Run fetches the list now and every hour until ctx ends. After an error it tries again
// within a minute, and less often while errors continue.
func (l *List) Run(ctx context.Context) {
	wait := retryInterval
	for {
		next := fetchInterval
		if err := l.Refresh(ctx); err != nil && ctx.Err() == nil {
			l.config.Log.Warn("list of Atlassian's networks not fetched; keeping the last one", "error", err, "retry_in", wait.String())
			next, wait = wait, min(2*wait, fetchInterval)
		} else {
			wait = retryInterval
		}
		if !pause.For(ctx, next) {
			return
		}
	}
}

// Refresh fetches the list once.
func (l *List) Refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	err := l.refresh(ctx)
	l.mu.Lock()
	l.err = err
	l.mu.Unlock()
	return err
}

func (l *List) refresh(ctx context.Context) error {
	document, err := l.config.Fetch(ctx, URL)
	if err != nil {
		return fmt.Errorf("fetch Atlassian's networks: %w", err)
	}
	networks, err := Parse(document)
	if err != nil {
		return fmt.Errorf("fetch Atlassian's networks: %s: %w", URL, err)
	}
	fetched := l.config.Now()
	l.mu.Lock()
	l.networks, l.fetched = networks, fetched
	l.mu.Unlock()
	if l.config.File == "" {
		return nil
	}
	if err := durable.Replace(l.config.File, fetched, document); err != nil {
		l.config.Log.Warn("list of Atlassian's networks not stored", "error", err)
	}
	return nil
}

// State is the present state of a list.
type State struct {
	Networks int
	Fetched  time.Time // zero: never
	Err      error     // of the latest attempt; nil: it succeeded, or there was none
}

// State returns the present state.
func (l *List) State() State {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return State{len(l.networks), l.fetched, l.err}
}
