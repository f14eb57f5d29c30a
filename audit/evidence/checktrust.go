package evidence

import (
	"slices"

	"github.com/sallyport/sallyport/audit"
)

// trust finds the keys and checkpoints from outside that vouch for the pack's checkpoint.
func (c *checker) trust() error {
	given := c.options.Trust.Keys
	trusted := forwards(given, c.named)
	if _, by, err := audit.OpenCheckpoint([]byte(c.m.Checkpoint), trusted...); err == nil {
		c.result.CheckpointBy = by
	}
	if err := c.outside(trusted); err != nil {
		return err
	}
	// The key that signed the manifest is the maker's, and need not be the log's.
	ofTheLog := slices.DeleteFunc(slices.Clone(given), func(k audit.Key) bool { return k == c.result.SignedBy })
	switch {
	case len(given) == 0:
		c.note("no key from outside was given (--key): only the pack itself names its maker and its log")
	case c.result.CheckpointBy != "":
	case len(ofTheLog) > 0:
		return wrong("checkpoint: no given key signed it, nor did one that a given key handed over to: given %q, signed by %q", given, c.signers())
	default:
		c.note("the given key signed the manifest and not the checkpoint, which is signed by %q: give the key of the log too (--key), or a checkpoint (--checkpoint)", c.signers())
	}
	return nil
}

// signers are the keys that signed the pack's checkpoint, of those that the pack
// names as keys of its log.
func (c *checker) signers() []audit.Key {
	if _, by, err := audit.OpenCheckpoint([]byte(c.m.Checkpoint), c.manifestFacts.Result.Keys...); err == nil {
		return []audit.Key{by}
	}
	return nil
}

// outside compares the pack's checkpoint with those from outside.
func (c *checker) outside(trusted []audit.Key) error {
	c.addProofs()
	known := append(slices.Clone(trusted), c.manifestFacts.Result.Keys...)
	unknown, unproven := 0, 0
	for i, signed := range c.options.Trust.Notes {
		o, by, err := audit.OpenCheckpoint(signed, known...)
		if err != nil {
			if unknown++; unknown <= maxWarnings {
				c.warn("%s: %s", c.options.Trust.Source(i), c.whyUnknown(signed))
			}
			continue
		}
		holds, err := c.confirms(o, by)
		if err != nil {
			return err
		}
		if !holds {
			unproven++
			continue
		}
		c.result.Anchored, c.result.AnchoredSize = true, max(c.result.AnchoredSize, o.Size)
	}
	if unknown > maxWarnings {
		c.warn("%d more checkpoints from outside are signed by no known key", unknown-maxWarnings)
	}
	switch {
	case c.result.Anchored:
	case len(c.options.Trust.Notes) == 0:
		c.note("no checkpoint from outside was given (--checkpoint): whether the log was rewritten before the pack was made is unknown")
	case unproven > 0:
		c.note("UNCONFIRMED: of the %d checkpoints from outside none has the size of the pack's, %d, or a proof in the pack: whether they are of the same log is unknown. Get such a proof from an operator of the log (`sallyport audit proof --from-size SIZE --to-size SIZE`), and give it with --proof", unproven, c.at.Size)
	default:
		c.note("UNCONFIRMED: no checkpoint from outside is signed by a known key")
	}
	return nil
}

func (c *checker) whyUnknown(signed []byte) string {
	const text = "this checkpoint is signed by no key that was given or that signed this log, and is not used"
	if o, err := audit.ReadCheckpoint(signed); err == nil && o.Size > c.at.Size {
		return text + ": it is from after the pack's, and may be of a later key of the log (give that with --key)"
	}
	return text
}

// maxWarnings is how many warnings are listed one by one.
const maxWarnings = 20

// confirms reports whether a checkpoint from outside, which a known key signed, is of
// the pack's log: it is the pack's, or a proof leads from one to the other. One that
// contradicts the pack is a finding.
func (c *checker) confirms(o audit.Checkpoint, by audit.Key) (bool, error) {
	head := audit.TreeHead{Size: o.Size, Root: o.Root}
	proof := c.proofs[o.Size]
	switch {
	case o.Size == c.at.Size:
		if o.Root != c.at.Root || o.Origin != c.at.Origin {
			return false, wrong("checkpoint: the one from outside of size %d of %s has another root than the pack's of %s", o.Size, o.Origin, c.at.Origin)
		}
		return true, nil
	case proof == nil || o.Origin != c.at.Origin:
		return false, nil
	case o.Size > c.at.Size: // anybody can make a tree that extends the pack's
		return proof.To == head, nil
	case proof.From != head:
		return false, wrong("checkpoint: the one from outside of size %d of %s has another root than the pack's tree has at that size", o.Size, o.Origin)
	}
	// Only the pack's checkpoint covers later events: its key has to be a successor of
	// the key that signed this one.
	return c.result.CheckpointBy != "" || c.signedAfter(by), nil
}

// signedAfter reports whether a key, or one that it handed over to, signed the pack's
// checkpoint.
func (c *checker) signedAfter(by audit.Key) bool {
	_, _, err := audit.OpenCheckpoint([]byte(c.m.Checkpoint), forwards([]audit.Key{by}, c.named)...)
	return err == nil
}
