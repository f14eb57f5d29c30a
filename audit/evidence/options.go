package evidence

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
)

// Options are the parameters of a pack.
type Options struct {
	Period       pack.Period
	Repositories []string    // full names or UUIDs; none: all
	Size         int64       // of the checkpoint to stand on; 0: the first that covers the period
	Sample       int         // how many sample details
	Seed         string      // empty: the root of the checkpoint
	Trust        audit.Trust // from outside of the log
	Signer       *audit.Signer
	Unsigned     bool // make it without a signer
	Tool         string
	Exceptions   pack.Exceptions                    // nil: none are listed
	Progress     func(stage string, events int64)   // nil: progress is not reported
	Record       func(context.Context, Built) error // called before the pack gets its name; its error removes the pack
}

// Built describes the pack that was made.
type Built struct {
	Manifest *pack.Manifest
	Digest   [sha256.Size]byte // of the manifest's file
	Facts    *pack.Facts
}

var (
	// ErrNotCovered is returned, wrapped, where no checkpoint covers the period.
	ErrNotCovered = errors.New("no checkpoint covers the period yet")
	// ErrParameters is returned, wrapped, for invalid options.
	ErrParameters = errors.New("invalid parameters")
)

func (o *Options) check() error {
	p := o.Period
	switch {
	case p.From.IsZero() || p.To.IsZero() || !p.From.Before(p.To):
		return fmt.Errorf("%w: the period ends before it begins", ErrParameters)
	case o.Sample < 0 || o.Sample > pack.MaxSample:
		return fmt.Errorf("%w: a sample can have 0 to %d decisions", ErrParameters, pack.MaxSample)
	case o.Signer == nil && !o.Unsigned:
		return fmt.Errorf("%w: the manifest needs a signing key", ErrParameters)
	case o.Size < 0 || slices.Contains(o.Repositories, ""):
		return fmt.Errorf("%w: a size is a number above 0, and a repository has a name", ErrParameters)
	}
	return nil
}
