package audit

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestManyKeys: a key is found among many that a login has added to a log, in whatever
// spelling of its hash, and an error does not list them all.
func TestManyKeys(t *testing.T) {
	t.Parallel()
	private, err := GenerateKey("log.example/a")
	if err != nil {
		t.Fatal(err)
	}
	s, err := ParseSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	c := Checkpoint{Origin: "log.example/a", Size: 7, Root: Hash{1}, Time: time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)}
	note, err := s.Sign(c)
	if err != nil {
		t.Fatal(err)
	}
	names := SignerNames(note)
	if len(names) != 1 || !strings.HasPrefix(string(s.Key()), names[0]) {
		t.Fatalf("%q signed, and the note names %q", s.Key(), names)
	}
	origin, rest, _ := strings.Cut(string(s.Key()), "+")
	capital := Key(origin + "+" + strings.ToUpper(rest[:8]) + rest[8:])
	keys := make([]Key, 0, 10_002)
	for n := range 10_000 {
		keys = append(keys, Key(fmt.Sprintf("log.example/a+%08x+%s", n, rest[9:])))
	}
	if _, _, err := OpenCheckpoint(note, keys...); err == nil || len(err.Error()) > 4096 || !strings.Contains(err.Error(), "and 9990 more") {
		t.Errorf("%.200v", err)
	}
	for _, key := range []Key{s.Key(), capital} {
		if _, by, err := OpenCheckpoint(note, append(keys, key)...); err != nil || by != key {
			t.Errorf("%s: by %q, %v", key, by, err)
		}
	}
	for _, text := range []string{"", "\n\n", "a\n\n— x", "a\n\n— x AAAA", "a\n\n— x !!!!!!!!!!!!", "a\n\nx yyyyyyyyyy"} {
		if _, _, err := OpenCheckpoint([]byte(text), s.Key()); err == nil {
			t.Errorf("%q is a checkpoint", text)
		}
		SignerNames([]byte(text))
	}
}

// TestManyClaimedKeys: the keys that a stranger names are kept once each, and a
// checkpoint is compared with those alone that it names.
func TestManyClaimedKeys(t *testing.T) {
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
	first, next := newSigner(), newSigner()
	c := new(chain)
	c.register(Registration{Key: first.Key()}, 0)
	_, hash, _ := strings.Cut(string(first.Key()), "+")
	for n := range 100_000 {
		c.register(Registration{Key: Key(fmt.Sprintf("log.example/a+%08x+%s", n/2, hash[9:]))}, int64(n+1))
	}
	c.register(Registration{Key: next.Key()}, 100_001)
	recordFields := Checkpoint{Origin: "log.example/a", Size: 100_002, Root: Hash{1}}
	note, err := next.Sign(recordFields)
	if err != nil {
		t.Fatal(err)
	}
	if n := c.claimed.kept; n != 50_001 {
		t.Errorf("%d keys are kept", n)
	}
	if keys := c.claimedSigners(note); len(keys) != 1 || keys[0] != next.Key() {
		t.Errorf("the checkpoint is compared with %q", keys)
	}
	if damage, _ := c.accept(note, recordFields, true); damage != DamageKey || c.present().Key != next.Key() {
		t.Errorf("%q, and %s signs", damage, c.present().Key)
	}
}
