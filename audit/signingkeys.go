package audit

import "slices"

// SigningKeys returns the keys whose checkpoints a reader of a log takes, the best
// ones first: those that were given, with the keys that they handed over to; those of
// the log's own chain, which are the first key that it names and each key that the
// last one handed over to; and the other keys that it names. A key of the last group
// may replace a lost one, or be that of a login which may record. named are the
// registrations of the log's sealed events, in its order. A group may be empty.
func SigningKeys(given []Key, named []Registration) [][]Key {
	trusted := slices.Clone(given)
	var chain, claimed []Key
	known := make(map[Key]bool) // in claimed
	for _, r := range named {
		if r.Previous != "" && slices.ContainsFunc(trusted, r.HandedOver) && !slices.Contains(trusted, r.Key) {
			trusted = append(trusted, r.Key)
		}
		switch {
		case slices.Contains(chain, r.Key):
		case len(chain) == 0, r.HandedOver(chain[len(chain)-1]):
			chain = append(chain, r.Key)
		case !known[r.Key]:
			known[r.Key] = true
			claimed = append(claimed, r.Key)
		}
	}
	return [][]Key{trusted, chain, claimed}
}
