package audit

import (
	"fmt"
	"slices"
	"strings"
)

// A KeyUse is what a key signed of a log.
type KeyUse struct {
	Key Key
	// Checkpoints counts the checkpoints of the log that the key signed, whether
	// they are valid or not.
	Checkpoints int64
	// First and Last are the sizes of the first and the last checkpoint that the key
	// signed and that are valid; 0: none.
	First, Last int64
	// Trusted: the key was given from outside, or a trusted key that had signed a
	// checkpoint handed over to it. A trusted key vouches from First on: for every
	// leaf under a checkpoint that it signed, and for nothing before it signed one.
	Trusted bool
}

// chain follows the keys that sign a log. The first is the one that the log
// itself names first; each other is named by an event that carries the signatures
// of the one before and of its own, and signs from the first checkpoint on after
// one that covers this event and is signed by the one before. A key that replaces
// a lost one has no signature of the one before: it counts if it is trusted from
// outside.
//
// Trust runs forwards only. A log that names a trusted key is not trusted for that:
// anybody can name a public key.
type chain struct {
	given   []Key
	uses    []KeyUse    // in their order; the last is the present key
	next    Key         // named, and waiting for a checkpoint that covers its event
	at      int64       // the leaf of that event
	claimed claimedKeys // named without a signature of the present key
	named   []Key       // of these, the given ones
	early   []earlyCheckpoint
	invalid bool
}

// earlyCheckpoint was signed before an event named a key.
type earlyCheckpoint struct {
	signed []byte
	size   int64
	holds  bool
}

func (c *chain) present() *KeyUse {
	if len(c.uses) == 0 {
		return nil
	}
	return &c.uses[len(c.uses)-1]
}

// follow makes a key the present one.
func (c *chain) follow(k Key, trusted bool) *KeyUse {
	c.uses = append(c.uses, KeyUse{Key: k, Trusted: trusted || slices.Contains(c.given, k)})
	return c.present()
}

func (u *KeyUse) sign(size int64, holds bool) {
	u.Checkpoints++
	if !holds {
		return
	}
	if u.First == 0 {
		u.First = size
	}
	u.Last = size
}

// vouches reports whether the key is trusted and signed a checkpoint that holds.
func (u *KeyUse) vouches() bool { return u.Trusted && u.First > 0 }

// register takes an event that names a key.
func (c *chain) register(r Registration, index int64) {
	switch present := c.present(); {
	case present == nil:
		use := c.follow(r.Key, false)
		for _, e := range c.early {
			if _, _, err := OpenCheckpoint(e.signed, r.Key); err != nil {
				c.invalid = true
				continue
			}
			use.sign(e.size, e.holds)
		}
		c.early = nil
	case r.Key == present.Key:
	case r.HandedOver(present.Key):
		c.next, c.at = r.Key, index
	default:
		c.claim(r.Key)
	}
}

// claim keeps a key once, however many events name it.
func (c *chain) claim(k Key) {
	if !slices.Contains(c.given, k) {
		c.claimed.add(k)
	} else if !slices.Contains(c.named, k) {
		c.named = append(c.named, k)
	}
}

// claimedSigners are the claimed keys that a note names in its signature lines.
func (c *chain) claimedSigners(signed []byte) (keys []Key) {
	return append(c.claimed.signers(signed), c.named...)
}

// accept returns what is wrong with the signature of a checkpoint of the log. holds:
// its root is that of the tree, and nothing of the tree before it is damaged.
func (c *chain) accept(signed []byte, checkpoint Checkpoint, holds bool) (Damage, string) {
	present := c.present()
	if present == nil { // the event that names it is further on
		if _, by, err := OpenCheckpoint(signed, c.given...); err == nil {
			c.follow(by, true).sign(checkpoint.Size, holds)
			return "", ""
		}
		c.early = append(c.early, earlyCheckpoint{signed, checkpoint.Size, holds})
		return "", ""
	}
	if _, _, err := OpenCheckpoint(signed, present.Key); err == nil {
		present.sign(checkpoint.Size, holds)
		if c.next != "" && checkpoint.Size > c.at {
			c.follow(c.next, present.vouches())
			c.next = ""
		}
		return "", ""
	}
	// A lost key signs nothing any more, not even that it is replaced.
	if _, by, err := OpenCheckpoint(signed, c.claimedSigners(signed)...); err == nil {
		c.follow(by, false).sign(checkpoint.Size, holds)
		c.claimed.remove(by)
		c.named = slices.DeleteFunc(c.named, func(k Key) bool { return k == by })
		if slices.Contains(c.given, by) {
			return "", ""
		}
		return DamageKey, fmt.Sprintf("the key %s signs from here on, and the one before did not hand over to it; if it replaces one that was lost, give it as trusted", by)
	}
	detail := fmt.Sprintf("it is not signed by the log's key %s", present.Key)
	if c.claimed.more {
		detail += fmt.Sprintf(", nor by one of the first %d other keys that events name: if a later one replaces a lost key, give it with --key", maxClaimed)
	}
	return DamageCheckpoint, detail
}

// finish returns what is wrong with the keys as a whole.
func (c *chain) finish() (Damage, string) {
	switch {
	case c.invalid || len(c.early) > 0:
		return DamageKey, "checkpoints are signed by a key that no event of the log names"
	case len(c.given) > 0 && !c.vouched():
		return DamageUnvouched, c.explainUnvouched()
	}
	return "", ""
}

// explainUnvouched lists the keys that signed the log, if the given keys did not.
func (c *chain) explainUnvouched() string {
	var signed, idle []string
	for _, u := range c.uses {
		switch {
		case u.First > 0:
			signed = append(signed, fmt.Sprintf("%s (sizes %d to %d)", u.Key, u.First, u.Last))
		case u.Checkpoints > 0:
			signed = append(signed, fmt.Sprintf("%s (no checkpoint of it holds)", u.Key))
		case slices.Contains(c.given, u.Key):
			idle = append(idle, string(u.Key))
		}
	}
	if slices.Contains(c.given, c.next) {
		idle = append(idle, string(c.next))
	}
	var given []string
	for _, k := range c.given {
		given = append(given, string(k))
	}
	text := fmt.Sprintf("no given key signed a checkpoint of this log that holds: given %s; the log is signed by ", strings.Join(given, ", "))
	if len(signed) == 0 {
		text += "no key"
	} else {
		text += strings.Join(signed, ", ")
	}
	if len(idle) > 0 {
		text += fmt.Sprintf("; the log names %s, which proves nothing until that key signs", strings.Join(idle, ", "))
	}
	return text
}

// vouched reports whether a trusted key signed a checkpoint that holds.
func (c *chain) vouched() bool {
	return slices.ContainsFunc(c.uses, func(u KeyUse) bool { return u.vouches() })
}

// signers are the keys that signed a checkpoint, in their order.
func (c *chain) signers() []Key {
	var keys []Key
	for _, u := range c.uses {
		if u.Checkpoints > 0 {
			keys = append(keys, u.Key)
		}
	}
	return keys
}

// known are the keys whose checkpoints from outside count: those that were given,
// and those that signed this log.
func (c *chain) known() []Key {
	keys := slices.Clone(c.given)
	for _, u := range c.uses {
		keys = append(keys, u.Key)
	}
	return keys
}
