package identity

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"log/slog"
	"strings"
)

// MaxCredentialBytes bounds a Proxy-Authorization field's value. A token with
// ten audiences of 150 characters is about 4.1 kB as Basic credentials.
const MaxCredentialBytes = 16 << 10

const redacted = "[credential]"

// Credential is what a client presents. It cannot be printed: every formatter
// (fmt with any verb, slog, JSON, text) writes a fixed placeholder. The zero
// value is not a credential. It cannot be compared either: compare digests.
type Credential struct {
	// A function, because fmt does not call the methods of a value in an
	// unexported field of another type's struct but prints its inside: of a
	// string that would be the token, of a function it is an address.
	reveal func() string
}

// NewCredential wraps a token that did not come from an HTTP field. The empty
// token is not a credential.
func NewCredential(token string) Credential {
	if token == "" {
		return Credential{}
	}
	return Credential{func() string { return token }}
}

// ParseCredential reads the value of one Proxy-Authorization field (RFC 9110
// section 11.7.2): "Bearer TOKEN" (RFC 6750 section 2.1) or "Basic" with the
// base64 of "anything:TOKEN" (RFC 7617 section 2). An empty value is
// [CredentialMissing], everything else that is not exactly one of the two is an
// [*Error] too. The error never quotes the value.
func ParseCredential(field string) (Credential, error) {
	if field == "" {
		return Credential{}, &Error{Problem: CredentialMissing, Detail: "no Proxy-Authorization was sent"}
	}
	if len(field) > MaxCredentialBytes {
		return Credential{}, &Error{Problem: CredentialTooLarge,
			Detail: fmt.Sprintf("Proxy-Authorization has %d bytes, at most %d are read", len(field), MaxCredentialBytes)}
	}
	scheme, value, found := strings.Cut(field, " ")
	value = strings.Trim(value, " ")
	if !found || value == "" {
		return Credential{}, malformed("Proxy-Authorization has no credentials after its scheme")
	}
	switch {
	case strings.EqualFold(scheme, "Bearer"):
		if !isToken68(value) {
			return Credential{}, malformedOrList(value, "the bearer token has bytes that no token has"+whyNotToken(value))
		}
		return NewCredential(value), nil
	case strings.EqualFold(scheme, "Basic"):
		return parseBasic(value)
	default:
		return Credential{}, malformed("Proxy-Authorization is neither Basic nor Bearer")
	}
}

func parseBasic(value string) (Credential, error) {
	// Strict: one padded spelling for each byte string, so that one credential
	// has one form. Some clients leave the padding out; that is one spelling too.
	enc := base64.StdEncoding.Strict()
	if !strings.HasSuffix(value, "=") && len(value)%4 != 0 {
		enc = base64.RawStdEncoding.Strict()
	}
	// The decoder skips line ends; a field value cannot hold any, so any that
	// are here did not come from a strict head.
	if strings.ContainsAny(value, "\r\n") {
		return Credential{}, malformed("the Basic credentials are not base64")
	}
	raw, err := enc.DecodeString(value)
	if err != nil {
		return Credential{}, malformedOrList(value, "the Basic credentials are not base64")
	}
	_, token, found := strings.Cut(string(raw), ":")
	if !found || token == "" {
		return Credential{}, malformed("the Basic credentials have no password: put the token behind a name and a colon, as in step:TOKEN@host:port")
	}
	if !isToken68(token) {
		return Credential{}, malformed("the password of the Basic credentials is not a token" + whyNotToken(token))
	}
	return NewCredential(token), nil
}

// whyNotToken names the usual mistake that made a password something other than
// a token, with its remedy. It never quotes the password.
func whyNotToken(password string) string {
	trimmed := strings.TrimSpace(password)
	switch {
	case strings.HasPrefix(password, "$"), strings.HasPrefix(password, "%24"):
		return ": it is the name of a variable and not its value; single quotes keep a shell from expanding it: use double quotes"
	case strings.HasPrefix(password, "{"):
		return ": it is a UUID or JSON; only $BITBUCKET_STEP_OIDC_TOKEN is a token"
	case trimmed != password:
		return ": there is white space or a line end around it; remove it (tr -d '[:space:]')"
	case strings.HasPrefix(password, "Bearer ") || strings.HasPrefix(password, "bearer "):
		return `: leave out the word "Bearer" in front of it`
	case strings.ContainsAny(password, "\"'`"):
		return ": there are quotation marks around it or in it; leave them out"
	case strings.Contains(password, ":"):
		return ": it has a colon; write the user information as name:token, with one colon"
	case strings.Contains(password, "%"):
		return ": it has percent-escapes; a token needs none in a URL"
	}
	return ""
}

func malformed(detail string) error {
	return &Error{Problem: CredentialMalformed, Detail: detail}
}

// malformedOrList distinguishes a list of credentials from garbage: RFC 9110 section
// 11.7.2 allows one only, and two meanings in one field are an attack.
func malformedOrList(value, detail string) error {
	if strings.Contains(value, ",") {
		return &Error{Problem: CredentialAmbiguous, Detail: "Proxy-Authorization holds a list; one credential is accepted"}
	}
	return malformed(detail)
}

// token68 has the characters of a token68 (RFC 9110 section 11.2), without the padding.
var token68 = func() (table [256]bool) {
	for _, c := range []byte("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~+/") {
		table[c] = true
	}
	return table
}()

// isToken68 reports whether s is a token68.
func isToken68(s string) bool {
	body := strings.TrimRight(s, "=")
	for i := range len(body) {
		if !token68[body[i]] {
			return false
		}
	}
	return body != ""
}

// IsZero reports whether there is no credential.
func (c Credential) IsZero() bool { return c.reveal == nil }

// Reveal returns the token, for the one who verifies it. Its result must not be
// logged, stored, sent anywhere or put into an error.
func (c Credential) Reveal() string {
	if c.reveal == nil {
		return ""
	}
	return c.reveal()
}

// Digest is the SHA-256 of the token, by which it may be recognized again.
func (c Credential) Digest() [sha256.Size]byte { return sha256.Sum256([]byte(c.Reveal())) }

// String returns a placeholder.
func (c Credential) String() string { return redacted }

// GoString returns a placeholder.
func (c Credential) GoString() string { return redacted }

// Format writes a placeholder whatever the verb is.
func (c Credential) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue returns a placeholder.
func (c Credential) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns a placeholder; encoding/json uses it too.
func (c Credential) MarshalText() ([]byte, error) { return []byte(redacted), nil }
