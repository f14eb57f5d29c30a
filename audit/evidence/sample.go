package evidence

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"sort"
)

// A sample is drawn so that anybody can draw it again, with nothing but the
// population, the seed and a program that computes SHA-256: of each decision the
// rank is
//
//	SHA-256(seed || decision_id)
//
// of the seed's bytes and the 36 characters of the id, and the N decisions of the
// least rank are the sample, in the order of their ranks. Without the seed
// and the ids in advance no decision can be placed in it or kept out of it. Of two decisions
// with one id the one with the lower leaf counts.
type sample struct {
	size   int
	seed   string
	chosen []chosen // ascending by rank; at most size
}

type chosen struct {
	id   string
	rank [sha256.Size]byte
	pair Pair
}

func rankOf(seed, id string) [sha256.Size]byte { return sha256.Sum256([]byte(seed + id)) }

func (c *chosen) Rank() string { return hex.EncodeToString(c.rank[:]) }

// offer takes the next decision of the population.
func (s *sample) offer(id string, p *Pair) {
	if s.size == 0 || !isID(id) {
		return
	}
	rank := rankOf(s.seed, id)
	at := sort.Search(len(s.chosen), func(i int) bool { return bytes.Compare(s.chosen[i].rank[:], rank[:]) >= 0 })
	if at < len(s.chosen) && s.chosen[at].id == id {
		if p.Leaf < s.chosen[at].pair.Leaf {
			s.chosen[at].pair = keep(p)
		}
		return
	}
	if at == s.size {
		return
	}
	s.chosen = slices.Insert(s.chosen, at, chosen{id, rank, keep(p)})
	s.chosen = s.chosen[:min(len(s.chosen), s.size)]
}

func keep(p *Pair) Pair {
	return Pair{p.Leaf, p.EndLeaf, bytes.Clone(p.Record), bytes.Clone(p.EndRecord)}
}

func (s *sample) ids() []string {
	ids := make([]string, 0, len(s.chosen))
	for i := range s.chosen {
		ids = append(ids, s.chosen[i].id)
	}
	return ids
}

// isID reports whether a text is a UUID as the log writes it: it becomes the name
// of a file.
func isID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return false
			}
		case (c < '0' || c > '9') && (c < 'a' || c > 'f'):
			return false
		}
	}
	return true
}
