package evidence

import (
	"errors"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
)

// CheckOptions are what a check of a pack knows from other sources.
type CheckOptions struct {
	Trust    audit.Trust
	Proofs   []*audit.Consistency        // between the pack's checkpoint and others
	Unsigned bool                        // accept an unsigned manifest
	Tool     string                      // this program: pages are made again if it is the one that made them
	Progress func(stage string, n int64) // nil: progress is not reported
}

// Checked is what a check found.
type Checked struct {
	Manifest *pack.Manifest
	SignedBy audit.Key // empty: it is unsigned
	Vouched  bool      // the manifest is signed by a key from outside, or by one that such a key handed over to
	// CheckpointBy is the trusted key that signed the pack's checkpoint: a key from
	// outside, or one that such a key handed over to. Empty: none did.
	CheckpointBy audit.Key
	// Anchored: a checkpoint from outside is valid. AnchoredSize is the size of the
	// largest one.
	Anchored     bool
	AnchoredSize int64
	Warnings     []string // of what was given and could not be used
	Bytes        int64
	Files        int
	Notes        []string // what the check could not establish
	Findings     []string // the first damaged place first
}

// Established reports whether what was given from outside vouches for the pack:
// for who signed the manifest, and for the log up to the pack's checkpoint. Where
// checkpoints were given, one of them has to hold.
func (c *Checked) Established(o CheckOptions) bool {
	signature := c.Vouched || c.SignedBy == "" && o.Unsigned
	return signature && (c.Anchored || c.CheckpointBy != "" && len(o.Trust.Notes) == 0)
}

// ErrNoPack is returned, wrapped, for a folder that is not a pack at all.
var ErrNoPack = errors.New("this is not an evidence pack")
