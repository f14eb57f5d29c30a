package audit

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestSigningKeys: a key that the log names and that no key of its chain handed over
// to comes last, regardless of who named it.
func TestSigningKeys(t *testing.T) {
	t.Parallel()
	now := time.Now()
	newSigner := func() *Signer {
		private, err := GenerateKey("log.example/a")
		if err != nil {
			t.Fatal(err)
		}
		s, err := ParseSigner(private)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	first, second, third, stranger, late := newSigner(), newSigner(), newSigner(), newSigner(), newSigner()
	var named []Registration
	add := func(e *Event, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		r, ok := RegistrationOf(e.AppendRecord(nil))
		if !ok {
			t.Fatal("not a registration")
		}
		named = append(named, r)
	}
	add(Register(first, now), nil)
	add(Register(stranger, now), nil)
	add(first.HandOver(second, now))
	add(first.HandOver(late, now)) // by a key that has handed over already
	add(second.HandOver(third, now))
	for _, c := range []struct {
		given []Key
		ranks [5]int // of the checkpoints of first, second, third, stranger and late
	}{
		{nil, [5]int{RankChain, RankChain, RankChain, RankClaimed, RankClaimed}},
		{[]Key{second.Key()}, [5]int{RankChain, RankTrusted, RankTrusted, RankClaimed, RankClaimed}},
		{[]Key{stranger.Key()}, [5]int{RankChain, RankChain, RankChain, RankTrusted, RankClaimed}},
	} {
		keys := NewSigningKeys(c.given...)
		for _, r := range named {
			keys.Add(r)
		}
		for i, s := range []*Signer{first, second, third, stranger, late} {
			note, err := s.Sign(Checkpoint{Size: 1, Root: Hash{1}, Time: now})
			if err != nil {
				t.Fatal(err)
			}
			if rank := keys.Rank(note); rank != c.ranks[i] {
				t.Errorf("given %v: the checkpoint of key %d has rank %d, want %d", c.given, i, rank, c.ranks[i])
			}
		}
		note, err := newSigner().Sign(Checkpoint{Size: 1, Root: Hash{1}, Time: now})
		if rank := keys.Rank(note); err != nil || rank != RankNone || keys.Given() != (len(c.given) > 0) {
			t.Errorf("a key that nobody named has rank %d, %v", rank, err)
		}
	}
}

// TestClaimedKeysAreBounded: a reader keeps a bounded number of the keys that strangers
// name, and every key that is given from outside or handed over to.
func TestClaimedKeysAreBounded(t *testing.T) {
	t.Parallel()
	newSigner := func() *Signer {
		private, err := GenerateKey("log.example/a")
		if err != nil {
			t.Fatal(err)
		}
		s, err := ParseSigner(private)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	first, next, replacement := newSigner(), newSigner(), newSigner()
	handOver, err := first.HandOver(next, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	registration := func(e *Event) Registration {
		r, _ := ReadRegistration(e.AppendRecord(nil))
		return r
	}
	note := func(s *Signer, size int64) []byte {
		signed, err := s.Sign(Checkpoint{Size: size, Root: Hash{1}, Time: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	c := &chain{given: []Key{replacement.Key()}}
	keys := NewSigningKeys(replacement.Key())
	c.register(registration(Register(first, time.Now())), 0)
	keys.Add(registration(Register(first, time.Now())))
	_, rest, _ := strings.Cut(string(first.Key()), "+")
	for n := range int64(maxClaimed + 1000) {
		r := Registration{Key: Key(fmt.Sprintf("log.example/a+%08x+%s", n, rest[9:]))}
		c.register(r, n+1)
		keys.Add(r)
	}
	for _, e := range []*Event{Register(replacement, time.Now()), handOver} {
		c.register(registration(e), maxClaimed+1001)
		keys.Add(registration(e))
	}
	if keys.claimed.kept != maxClaimed || len(keys.claimed.of) != maxClaimed || c.claimed.kept != maxClaimed || !c.claimed.more {
		t.Errorf("%d and %d keys are kept", keys.claimed.kept, c.claimed.kept)
	}
	if rank := keys.Rank(note(next, 1)); rank != RankChain {
		t.Errorf("the key that the log's key handed over to has rank %d", rank)
	}
	if rank := keys.Rank(note(replacement, 1)); rank != RankTrusted {
		t.Errorf("the given key has rank %d", rank)
	}
	recordFields := Checkpoint{Origin: "log.example/a", Size: maxClaimed + 2000, Root: Hash{1}}
	if damage, text := c.accept(note(newSigner(), recordFields.Size), recordFields, true); damage != DamageCheckpoint || !strings.Contains(text, "--key") {
		t.Errorf("%q: %s", damage, text)
	}
	if damage, text := c.accept(note(replacement, recordFields.Size), recordFields, true); damage != "" || c.present().Key != replacement.Key() || !c.vouched() {
		t.Errorf("the given key that replaces a lost one: %q: %s", damage, text)
	}
}
