package agent

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
)

// A credential is spagent_, its id in 16 hexadecimal digits, _, and its secret in 64. The id
// finds the stored digest; the secret is never stored.
const (
	credentialPrefix = "spagent_"
	idDigits         = 16
	secretDigits     = 64
)

// ErrCredential is the error of a credential that is malformed, unknown or revoked. It is
// one error, so that a client cannot find out which ids exist.
var ErrCredential = errors.New("not a valid agent credential")

// Credential is what the gateway stores about a credential. The zero value authenticates
// nothing.
type Credential struct {
	ID       string
	Endpoint string   // whose tasks the agent may claim
	Digest   [32]byte // SHA-256 of the credential's text
	LeaseKey [32]byte // authenticates leases; agents do not know it
}

// Credentials finds stored credentials. Its methods are called concurrently.
type Credentials interface {
	// Find returns the credential with an id. The error wraps [ErrCredential] if there is
	// none or it is revoked; any other error means that this could not be found out.
	Find(ctx context.Context, id string) (Credential, error)
	// Used notes that a request had the credential and its secret. It is called for each such
	// request.
	Used(ctx context.Context, id string)
}

// StoredCredential describes a stored credential without its secrets.
type StoredCredential struct {
	ID, Endpoint, Description, CreatedBy string
	CreatedAt                            time.Time
	LastUsedAt, RevokedAt                time.Time // zero: never
	RevokedBy, RevokedReason             string
}

// NewCredential makes a credential for an endpoint. It returns the text, which only the
// agent keeps, and what is to be stored.
func NewCredential(endpoint string) (text string, c Credential) {
	var id [idDigits / 2]byte
	var secret [secretDigits / 2]byte
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	_, _ = rand.Read(secret[:])
	c = Credential{ID: hex.EncodeToString(id[:]), Endpoint: endpoint}
	_, _ = rand.Read(c.LeaseKey[:])
	text = credentialPrefix + c.ID + "_" + hex.EncodeToString(secret[:])
	c.Digest = sha256.Sum256([]byte(text))
	return text, c
}

// credentialID returns the id in a credential's text. The error wraps [ErrCredential].
func credentialID(text string) (string, error) {
	rest, ok := strings.CutPrefix(text, credentialPrefix)
	if !ok || len(rest) != idDigits+1+secretDigits || rest[idDigits] != '_' || !isHex(rest[:idDigits]) || !isHex(rest[idDigits+1:]) {
		return "", ErrCredential
	}
	return rest[:idDigits], nil
}

// CheckCredential reports whether a text has the form of a credential. It does not report
// whether the gateway accepts it. The error wraps [ErrCredential].
func CheckCredential(text string) error {
	if _, err := credentialID(text); err != nil {
		return fmt.Errorf("%w: write the output of `sallyport webhook agent-credential create` into the file", err)
	}
	return nil
}

func isHex(s string) bool {
	return strings.Trim(s, "0123456789abcdef") == ""
}

// matches reports in constant time whether the text is this credential.
func (c Credential) matches(text string) bool {
	digest := sha256.Sum256([]byte(text))
	return subtle.ConstantTimeCompare(digest[:], c.Digest[:]) == 1 && c.Digest != [32]byte{}
}

// find returns the credential with a text. It does the same work for an unknown id as for a
// wrong secret.
func find(ctx context.Context, all Credentials, text string) (Credential, error) {
	id, err := credentialID(text)
	if err != nil {
		return Credential{}, err
	}
	c, err := all.Find(ctx, id)
	if err != nil && !errors.Is(err, ErrCredential) {
		return Credential{}, err
	}
	matches := c.matches(text)
	if err != nil {
		return Credential{}, errUnknownID
	}
	if !matches || c.ID != id {
		return Credential{}, ErrCredential
	}
	return c, nil
}

// errUnknownID wraps [ErrCredential]: the id is not stored, or revoked. Another instance may
// be creating the credential at this moment.
var errUnknownID = fmt.Errorf("%w: unknown id", ErrCredential)
