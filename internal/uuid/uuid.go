// Package uuid makes and checks UUIDs (RFC 9562) in their canonical text form: 36
// characters, lower-case. Its functions are safe for concurrent use.
//
// NewV7 takes the time from its caller and fills all 74 remaining bits at random.
// google/uuid reads the clock itself and uses 12 of these bits for the time.
package uuid

import (
	"crypto/rand"
	"encoding/hex"
	"io"
	"strings"
	"time"
)

// Nil is the Nil UUID (RFC 9562 section 5.9).
const Nil = "00000000-0000-0000-0000-000000000000"

// NewV4 returns a random UUID (RFC 9562 section 5.4).
func NewV4() string { return NewV4From(rand.Reader) }

// NewV4From is [NewV4] with other bytes, such as those of a seeded generator or of a
// hash. It panics if random has fewer than 16 bytes.
func NewV4From(random io.Reader) string {
	var b [16]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		panic("uuid: read 16 bytes: " + err.Error()) // crypto/rand never fails
	}
	return format(b, 4)
}

// NewV7 returns a UUID that begins with the milliseconds of now (RFC 9562 section 5.7),
// so that UUIDs sort by time. The other 74 bits are random, so that no UUID can be
// guessed from another.
func NewV7(now time.Time) string {
	var b [16]byte
	_, _ = rand.Read(b[6:]) // never fails: crypto/rand ends the process instead
	ms := uint64(now.UnixMilli())
	for i := range 6 {
		b[i] = byte(ms >> (40 - 8*i))
	}
	return format(b, 7)
}

// format sets the version and the variant, and returns the text form.
func format(b [16]byte, version byte) string {
	b[6] = b[6]&0x0f | version<<4
	b[8] = b[8]&0x3f | 0x80
	var out [36]byte
	hex.Encode(out[0:8], b[0:4])
	hex.Encode(out[9:13], b[4:6])
	hex.Encode(out[14:18], b[6:8])
	hex.Encode(out[19:23], b[8:10])
	hex.Encode(out[24:36], b[10:16])
	out[8], out[13], out[18], out[23] = '-', '-', '-', '-'
	return string(out[:])
}

// Parse returns the canonical form of a UUID in the spellings of Bitbucket: bare or in
// braces, with digits in either case (RFC 9562 section 4). For other texts it returns "".
func Parse(s string) (canonical string, ok bool) {
	if len(s) == 38 && s[0] == '{' && s[37] == '}' {
		s = s[1:37]
	}
	if s = strings.ToLower(s); !IsCanonical(s) {
		return "", false
	}
	return s, true
}

// IsCanonical reports whether s is a UUID of any version in canonical text form.
// PostgreSQL and google/uuid accept other spellings of the same UUID, under which a
// comparison of texts would not find it.
func IsCanonical(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
				return false
			}
		}
	}
	return true
}
