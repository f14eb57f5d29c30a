package audit

import (
	"fmt"
	"slices"
)

// chain follows the keys that sign a log. The first is the one that the log
// itself names first; each other is named by an event that carries the signature
// of the one before, and signs from the first checkpoint on after one that
// covers this event and is signed by the one before. A key that replaces a lost
// one has no such signature: it counts if it is trusted from outside.
type chain struct {
	trusted []Key
	all     []Key // in their order; the last is the present one
	next    Key   // named, and waiting for a checkpoint that covers its event
	at      int64 // the leaf of that event
	claimed []Key // named without a signature
	early   [][]byte
	bad     bool
}

func (c *chain) present() Key {
	if len(c.all) == 0 {
		return ""
	}
	return c.all[len(c.all)-1]
}

// register takes an event that names a key.
func (c *chain) register(r Registration, index int64) {
	switch present := c.present(); {
	case present == "":
		c.all = append(c.all, r.Key)
		for _, signed := range c.early {
			if _, _, err := OpenCheckpoint(signed, r.Key); err != nil {
				c.bad = true
			}
		}
		c.early = nil
	case r.Key == present:
	case r.HandedOver(present):
		c.next, c.at = r.Key, index
	default:
		c.claimed = append(c.claimed, r.Key)
	}
}

// accept says what is wrong with the signature of a checkpoint of the log.
func (c *chain) accept(signed []byte, said Checkpoint) (Damage, string) {
	present := c.present()
	if present == "" { // the event that names it is further on, or was taken away by retention
		if _, by, err := OpenCheckpoint(signed, c.trusted...); err == nil {
			c.all = append(c.all, by)
			return "", ""
		}
		c.early = append(c.early, signed)
		return "", ""
	}
	if _, _, err := OpenCheckpoint(signed, present); err == nil {
		if c.next != "" && said.Size > c.at {
			c.all = append(c.all, c.next)
			c.next = ""
		}
		return "", ""
	}
	// A lost key signs nothing any more, not even that it is replaced.
	if _, by, err := OpenCheckpoint(signed, c.claimed...); err == nil {
		c.all = append(c.all, by)
		c.claimed = slices.DeleteFunc(c.claimed, func(k Key) bool { return k == by })
		if slices.Contains(c.trusted, by) {
			return "", ""
		}
		return DamageKey, fmt.Sprintf("the key %s signs from here on, and the one before did not hand over to it; if it replaces one that was lost, give it as trusted", by)
	}
	return DamageCheckpoint, fmt.Sprintf("it is not signed by the log's key %s", present)
}

// finish says what is wrong with the keys as a whole.
func (c *chain) finish() (Damage, string) {
	switch {
	case c.bad || len(c.early) > 0:
		return DamageKey, "checkpoints are signed by a key that no event of the log names"
	case len(c.trusted) > 0 && len(c.all) > 0 && !c.vouched():
		return DamageForeign, fmt.Sprintf("none of the trusted keys signed this log, which is signed by %q", c.all)
	}
	return "", ""
}

// vouched reports whether a trusted key is among those that signed.
func (c *chain) vouched() bool {
	return slices.ContainsFunc(c.all, func(k Key) bool { return slices.Contains(c.trusted, k) })
}
