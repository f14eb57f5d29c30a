// Package token reads the step's OIDC token from its source: an environment variable, a
// file or a command. No value and no error of this package shows a token.
package token

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"time"

	"github.com/sallyport/sallyport/identity"
)

// MaxBytes bounds a token. Sallyport accepts at most [identity.MaxCredentialBytes] of a
// field that contains it, with the scheme.
const MaxBytes = identity.MaxCredentialBytes - len("Bearer ")

// Source returns the present token. It is safe for concurrent use.
type Source interface {
	// Token returns a token, or an error that states what the user has to do. A token
	// that has expired is returned if the source has no newer one: the proxy decides.
	Token(ctx context.Context) (Token, error)
	// Renew is Token after the proxy refused a token as expired. It returns the same
	// token if the source has no newer one.
	Renew(ctx context.Context, refused Token) (Token, error)
}

// Token is a token and its expiry. It cannot be printed: every formatter writes a fixed
// placeholder. The zero value is not a token.
type Token struct {
	identity.Credential
	// Expires is the claim exp, read without a verification of the signature (RFC 7519
	// section 4.1.4). It is zero if the token has no such claim or is not a JWT.
	Expires time.Time
}

// Errors of [Parse]. Their texts never contain a part of the token.
var (
	errEmpty     = errors.New("the token is empty")
	errTooLong   = errors.New("the token has more than 16 KiB")
	errNotAToken = errors.New("the value is not a token: it contains spaces, line ends or other characters that no token has")
)

// Parse returns the token in s, without white space around it. It does not verify the
// token.
func Parse(s string) (Token, error) {
	s = strings.TrimSpace(s)
	switch {
	case s == "":
		return Token{}, errEmpty
	case len(s) > MaxBytes:
		return Token{}, errTooLong
	case !isToken68(s):
		return Token{}, errNotAToken
	}
	return Token{Credential: identity.NewCredential(s), Expires: expiry(s)}, nil
}

// Same reports whether two tokens are equal.
func (t Token) Same(other Token) bool {
	return !t.IsZero() && !other.IsZero() && t.Digest() == other.Digest()
}

// Expired reports whether the token has expired at a time. A token without a known expiry
// has not.
func (t Token) Expired(at time.Time) bool { return !t.Expires.IsZero() && !at.Before(t.Expires) }

// isToken68 reports whether s is a token68 (RFC 9110 section 11.2), the form of a bearer
// token (RFC 6750 section 2.1).
func isToken68(s string) bool {
	body := strings.TrimRight(s, "=")
	return body != "" && strings.IndexFunc(body, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-._~+/", r))
	}) < 0
}

// expiry reads exp of a JWT in compact form (RFC 7515 section 3.1); zero: unknown.
func expiry(s string) time.Time {
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		return time.Time{}
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return time.Time{}
	}
	var claims struct {
		Exp *float64 `json:"exp"`
	}
	d := json.NewDecoder(bytes.NewReader(payload))
	if d.Decode(&claims) != nil || claims.Exp == nil {
		return time.Time{}
	}
	// The bound is the year 9999, the last that a time in JSON can have.
	const latest = 253402300799
	if e := *claims.Exp; !math.IsNaN(e) && 0 < e && e <= latest {
		return time.Unix(int64(e), 0)
	}
	return time.Time{}
}
