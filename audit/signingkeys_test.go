package audit

import (
	"slices"
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
	for _, c := range []struct{ given, trusted []Key }{
		{nil, nil},
		{[]Key{second.Key()}, []Key{second.Key(), third.Key()}},
		{[]Key{stranger.Key()}, []Key{stranger.Key()}},
	} {
		got := SigningKeys(c.given, named)
		want := [][]Key{c.trusted, {first.Key(), second.Key(), third.Key()}, {stranger.Key(), late.Key()}}
		if !slices.EqualFunc(got, want, slices.Equal[[]Key]) {
			t.Errorf("given %v: %v", c.given, got)
		}
	}
}
