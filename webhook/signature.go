package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// SignatureHeader is the header field that carries a delivery's signature.
// Source: support.atlassian.com/bitbucket-cloud/docs/manage-webhooks.
const SignatureHeader = "X-Hub-Signature"

// MaxSecret is how many bytes Bitbucket Cloud accepts as a secret.
const MaxSecret = 128

// UnusedSecretPrefix begins the content of a previous secret's file while only one secret is
// in use. Such a text verifies nothing: operators may write the rest of it by hand.
const UnusedSecretPrefix = "unused-"

// Signature is the HMAC-SHA256 (RFC 2104) of a delivery's body.
type Signature [sha256.Size]byte

// ErrSignature is the error of [ParseSignature].
var ErrSignature = errors.New("not a signature of the form sha256= and 64 hexadecimal digits")

// ParseSignature reads the value of [SignatureHeader]. Only SHA-256 is accepted: Bitbucket
// sends no other, and SHA-1 is weak.
func ParseSignature(value string) (Signature, error) {
	var s Signature
	digits, ok := strings.CutPrefix(value, "sha256=")
	if !ok || len(digits) != hex.EncodedLen(len(s)) {
		return Signature{}, ErrSignature
	}
	if _, err := hex.Decode(s[:], []byte(digits)); err != nil {
		return Signature{}, ErrSignature
	}
	return s, nil
}

// String returns the value of the header field.
func (s Signature) String() string { return "sha256=" + hex.EncodeToString(s[:]) }

// Secret is a webhook's secret. The zero value verifies nothing. A Secret is immutable
// and safe for concurrent use.
type Secret struct{ key string }

// NewSecret returns the secret with these bytes. An empty secret, one that is longer than
// Bitbucket accepts, and one that begins with [UnusedSecretPrefix] is an error.
func NewSecret(key string) (Secret, error) {
	switch {
	case key == "":
		return Secret{}, errors.New("the secret is empty: a webhook without a secret is not signed")
	case len(key) > MaxSecret:
		return Secret{}, fmt.Errorf("the secret has %d bytes: Bitbucket accepts at most %d", len(key), MaxSecret)
	case isUnused(key):
		return Secret{}, fmt.Errorf("the secret begins with %s, which marks a previous secret that is not in use", UnusedSecretPrefix)
	}
	return Secret{key}, nil
}

// NewPreviousSecret is [NewSecret] for the secret that another one replaces. The result is
// the zero value, which verifies nothing, if key begins with [UnusedSecretPrefix].
func NewPreviousSecret(key string) (Secret, error) {
	if isUnused(key) {
		return Secret{}, nil
	}
	return NewSecret(key)
}

func isUnused(key string) bool { return strings.HasPrefix(key, UnusedSecretPrefix) }

// String, GoString and LogValue never show the secret.
func (Secret) String() string { return "[secret]" }

// GoString is for %#v.
func (Secret) GoString() string { return "[secret]" }

// MarshalText is for JSON and log handlers.
func (Secret) MarshalText() ([]byte, error) { return []byte("[secret]"), nil }

// Sign returns the signature of body.
func (s Secret) Sign(body []byte) Signature {
	mac := hmac.New(sha256.New, []byte(s.key))
	mac.Write(body)
	return Signature(mac.Sum(nil))
}

// Verify reports whether the signature is that of body, in constant time. It is false
// for the zero value.
func (s Secret) Verify(body []byte, signature Signature) bool {
	if s.key == "" {
		return false
	}
	want := s.Sign(body)
	return hmac.Equal(want[:], signature[:])
}
