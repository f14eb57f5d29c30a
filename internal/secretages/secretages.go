// Package secretages records when each secret of an instance was last changed, so that the
// audit log shows for every day which secrets were older than 90 days. No secret is recorded.
package secretages

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// Intervals of the recorder.
const (
	Interval      = 24 * time.Hour  // between two events without a change
	CheckInterval = 5 * time.Minute // between two reads of the ages
)

// Config configures a [Recorder].
type Config struct {
	// Ages returns the ages of all secrets now. An error means that the list is not complete:
	// nothing is recorded, and the next check tries again.
	Ages func(context.Context) ([]audit.SecretAge, error)
	// Record makes an event durable, or returns an error.
	Record        func(context.Context, *audit.Event) error
	Interval      time.Duration    // 0: [Interval]
	CheckInterval time.Duration    // 0: [CheckInterval]
	Log           *slog.Logger     // nil: none
	Now           func() time.Time // nil: time.Now
}

// Recorder records the ages of secrets. Its methods must not be called concurrently.
type Recorder struct {
	config   Config
	recorded []audit.SecretAge // of the latest event
	at       time.Time         // of the latest event; zero: none was recorded
}

// New returns a recorder that has recorded nothing.
func New(c Config) *Recorder {
	c.Interval = cmp.Or(c.Interval, Interval)
	c.CheckInterval = cmp.Or(c.CheckInterval, CheckInterval)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Recorder{config: c}
}

// Run records the ages at once, after each change, and once per interval, until ctx ends.
func (r *Recorder) Run(ctx context.Context) {
	tick := time.NewTicker(r.config.CheckInterval)
	defer tick.Stop()
	for {
		if err := r.Check(ctx); err != nil && ctx.Err() == nil {
			r.config.Log.Warn("ages of secrets not recorded; repeated at the next check", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// Check reads the ages, and records them if they differ from those of the latest event, or if
// that event is older than the interval.
func (r *Recorder) Check(ctx context.Context) error {
	ages, err := r.config.Ages(ctx)
	if err != nil {
		return err
	}
	ages = slices.Clone(ages)
	slices.SortStableFunc(ages, func(a, b audit.SecretAge) int { return strings.Compare(a.Name, b.Name) })
	for i := range ages { // the log has whole seconds
		ages[i].Since, ages[i].Expires = ages[i].Since.UTC().Truncate(time.Second), ages[i].Expires.UTC().Truncate(time.Second)
	}
	now := r.config.Now()
	if !r.at.IsZero() && now.Sub(r.at) < r.config.Interval && slices.Equal(ages, r.recorded) {
		return nil
	}
	e := &audit.Event{Time: now, Kind: audit.KindSecretAges, Message: "when each secret was last changed", Attributes: audit.AppendSecretAges(nil, ages)}
	if err := r.config.Record(ctx, e); err != nil {
		return err
	}
	r.recorded, r.at = ages, now
	return nil
}

// File returns when a file was last changed; zero: there is no such file, or its folder
// cannot be read.
func File(path string) time.Time {
	info, err := os.Stat(path)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// maxCertificate bounds what is read of a certificate's file, in bytes.
const maxCertificate = 1 << 20

// Certificate returns the validity of the first certificate in a PEM file; zero times: the
// file has none, or cannot be read.
func Certificate(path string) (from, until time.Time) {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxCertificate {
		return time.Time{}, time.Time{}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return time.Time{}, time.Time{}
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return time.Time{}, time.Time{}
		}
		return c.NotBefore, c.NotAfter
	}
	return time.Time{}, time.Time{}
}
