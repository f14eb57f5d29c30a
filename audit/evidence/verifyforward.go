package evidence

import (
	"context"
	"slices"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/report"
)

// verifyForward reads the log after the checkpoint where later events concern earlier
// ones: up to a larger checkpoint from outside if none has this size, and up to the
// retention events of removed records. Records that retention removed from before the
// period are not reported, so that the pack stays the same; those of the period are.
func (b *builder) verifyForward(ctx context.Context, r *audit.Report) error {
	to := int64(0)
	beyond, known, size, err := b.beyond(ctx, r.Keys)
	if err != nil {
		return err
	}
	if beyond != nil && size == 0 {
		if known {
			b.damage(r, audit.DamageShort, "a checkpoint from outside covers more than the log has a checkpoint of: its end was cut off, or it is an older backup")
		}
		beyond = nil
	}
	to = size
	missing := r.Counts[audit.DamageMissing] > 0
	if missing {
		if size, err = b.log.RetentionAfter(ctx, b.checkpoint.Size); err != nil {
			return err
		}
		missing, to = size > 0, max(to, size)
	}
	taken := r.Retentions
	if to > 0 {
		later, err := b.verify(ctx, to, beyond)
		if err != nil {
			return err
		}
		taken = append(slices.Clone(taken), later.Retentions...)
		if missing && later.Counts[audit.DamageMissing] == 0 {
			delete(r.Counts, audit.DamageMissing)
			r.Findings = slices.DeleteFunc(r.Findings, func(f audit.Finding) bool { return f.Damage == audit.DamageMissing })
		}
		switch {
		case beyond == nil:
		case later.Anchored.Size > b.checkpoint.Size:
			r.Anchored = later.Anchored
		case known || later.Counts[audit.DamageTree] > 0: // a statement of an unknown key is not evidence of damage
			b.damage(r, audit.DamageTree, "a checkpoint from outside, larger than the checkpoint of this pack, does not hold: see `sallyport audit verify`")
		}
	}
	b.facts.Removed = b.months(taken)
	return nil
}

// beyond is the least checkpoint from outside that is larger than ours, where none
// has our size, and the size of the log's first checkpoint that covers it; 0: none
// does. known: a given key or one that signed the log so far signed it; one that such
// a key signed goes before one that a later key may have signed.
func (b *builder) beyond(ctx context.Context, signers []audit.Key) (signed []byte, known bool, size int64, err error) {
	least := int64(0)
	keys := append(slices.Clone(b.options.Trust.Keys), signers...)
	for _, outside := range b.options.Trust.Notes {
		c, err := audit.ReadCheckpoint(outside)
		if err != nil || c.Size < b.checkpoint.Size {
			continue
		}
		_, _, err = audit.OpenCheckpoint(outside, keys...)
		isKnown := err == nil
		switch {
		case c.Size == b.checkpoint.Size:
			if isKnown {
				return nil, false, 0, nil
			}
		case known && !isKnown:
		case signed == nil || isKnown && !known || c.Size < least:
			signed, least, known = outside, c.Size, isKnown
		}
	}
	if signed == nil {
		return nil, false, 0, nil
	}
	note, err := b.log.Checkpoint(ctx, least)
	if note == nil || err != nil {
		return signed, known, 0, err
	}
	c, err := audit.ReadCheckpoint(note)
	return signed, known, c.Size, err
}

// verify verifies the log up to a size, and against a checkpoint from outside if
// there is one.
func (b *builder) verify(ctx context.Context, size int64, outside []byte) (*audit.Report, error) {
	trust := audit.Trust{Keys: b.options.Trust.Keys}
	if outside != nil {
		trust.Notes = [][]byte{outside}
	}
	v, err := audit.NewVerification(trust)
	if err != nil {
		return nil, err
	}
	if err := b.log.Walk(ctx, size, v, func(n int64) { b.options.Progress("events verified, on to what came later", n) }); err != nil {
		return nil, err
	}
	return v.Report(), nil
}

func (b *builder) damage(r *audit.Report, d audit.Damage, detail string) {
	if r.Counts == nil {
		r.Counts = map[audit.Damage]int64{}
	}
	r.Counts[d]++
	r.Findings = append(r.Findings, audit.Finding{Damage: d, First: -1, Last: -1, Detail: detail})
}

// months are those of the period that retention has taken.
func (b *builder) months(retentions []audit.Retention) []string {
	months := report.Names{}
	last := b.options.Period.To.Add(-time.Microsecond).Format("2006-01")
	for _, one := range retentions {
		if b.options.Period.From.Format("2006-01") <= one.Month && one.Month <= last {
			months.Add(one.Month)
		}
	}
	return months
}
