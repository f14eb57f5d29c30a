package audit

import "slices"

// maxClaimed bounds the keys that a reader keeps of those that a log names and that no
// key of its own handed over to. A login that may record names any number of keys. A
// key that replaces a lost one is kept regardless, where it is given from outside.
const maxClaimed = 100_000

// claimedKeys are keys that a log names without the signature of a key of its own, each
// once, by Key.SignerName.
type claimedKeys struct {
	of   map[string][]Key
	kept int
	more bool // further keys were named and not kept
}

func (c *claimedKeys) add(k Key) {
	name := k.SignerName()
	switch {
	case slices.Contains(c.of[name], k):
		return
	case c.kept == maxClaimed:
		c.more = true
		return
	case c.of == nil:
		c.of = make(map[string][]Key)
	}
	c.of[name] = append(c.of[name], k)
	c.kept++
}

func (c *claimedKeys) remove(k Key) {
	name := k.SignerName()
	if i := slices.Index(c.of[name], k); i >= 0 {
		c.of[name] = slices.Delete(c.of[name], i, i+1)
		c.kept--
	}
}

// signers are the kept keys that a note names in its signature lines.
func (c *claimedKeys) signers(signed []byte) (keys []Key) {
	if len(c.of) == 0 {
		return nil
	}
	for _, name := range SignerNames(signed) {
		keys = append(keys, c.of[name]...)
	}
	return keys
}

// SigningKeys orders the keys whose checkpoints a reader of a log takes, the best ones
// first: those that were given, with the keys that they handed over to; those of the
// log's own chain, which are the first key that it names and each key that the last one
// handed over to; and the other keys that it names. A key of the last group may replace
// a lost one, or be that of a login which may record. Of the last group at most 100,000
// are kept.
type SigningKeys struct {
	trusted, chain []Key
	claimed        claimedKeys
}

// Ranks of keys.
const (
	RankTrusted = iota
	RankChain
	RankClaimed
	RankNone
)

// NewSigningKeys begins with the keys that are given from outside.
func NewSigningKeys(given ...Key) *SigningKeys {
	return &SigningKeys{trusted: slices.Clone(given)}
}

// Given reports whether a key was given from outside.
func (s *SigningKeys) Given() bool { return len(s.trusted) > 0 }

// Add takes the registration of a sealed event, in the order of the log. Its signatures
// are verified where they matter.
func (s *SigningKeys) Add(r Registration) {
	if r.Previous != "" && slices.Contains(s.trusted, r.Previous) && !slices.Contains(s.trusted, r.Key) && r.HandedOver(r.Previous) && r.Possessed() {
		s.trusted = append(s.trusted, r.Key)
	}
	switch {
	case slices.Contains(s.chain, r.Key):
	case len(s.chain) == 0 && r.Possessed():
		s.chain = append(s.chain, r.Key)
	case len(s.chain) > 0 && r.HandedOver(s.chain[len(s.chain)-1]) && r.Possessed():
		s.chain = append(s.chain, r.Key)
	default:
		s.claimed.add(r.Key)
	}
}

// Rank returns the best rank of the keys that signed a checkpoint.
func (s *SigningKeys) Rank(signed []byte) int {
	for rank, keys := range [][]Key{s.trusted, s.chain, s.claimed.signers(signed)} {
		if _, _, err := OpenCheckpoint(signed, keys...); err == nil {
			return rank
		}
	}
	return RankNone
}
