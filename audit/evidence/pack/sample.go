package pack

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
type Sample struct {
	Size   int
	Seed   string
	Chosen []Chosen // ascending by rank; at most size
}

type Chosen struct {
	ID   string
	rank [sha256.Size]byte
	Pair Pair
}

func rankOf(seed, id string) [sha256.Size]byte { return sha256.Sum256([]byte(seed + id)) }

func (c *Chosen) Rank() string { return hex.EncodeToString(c.rank[:]) }

// Offer takes the next decision of the population.
func (s *Sample) Offer(id string, p *Pair) {
	if s.Size == 0 || !IsID(id) {
		return
	}
	rank := rankOf(s.Seed, id)
	at := sort.Search(len(s.Chosen), func(i int) bool { return bytes.Compare(s.Chosen[i].rank[:], rank[:]) >= 0 })
	if at < len(s.Chosen) && s.Chosen[at].ID == id {
		if p.Leaf < s.Chosen[at].Pair.Leaf {
			s.Chosen[at].Pair = clonePair(p)
		}
		return
	}
	if at == s.Size {
		return
	}
	s.Chosen = slices.Insert(s.Chosen, at, Chosen{id, rank, clonePair(p)})
	s.Chosen = s.Chosen[:min(len(s.Chosen), s.Size)]
}

func clonePair(p *Pair) Pair {
	return Pair{p.Leaf, p.EndLeaf, bytes.Clone(p.Record), bytes.Clone(p.EndRecord)}
}

func (s *Sample) IDs() []string {
	ids := make([]string, 0, len(s.Chosen))
	for i := range s.Chosen {
		ids = append(ids, s.Chosen[i].ID)
	}
	return ids
}

// IsID reports whether a text is a UUID as the log writes it: it becomes the name
// of a file.
func IsID(s string) bool {
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
