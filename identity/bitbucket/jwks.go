package bitbucket

import (
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/sallyport/sallyport/internal/bitbucketapi"
	"github.com/sallyport/sallyport/internal/printable"
)

const (
	maxKeys     = 100  // of one issuer
	minRSABits  = 2048 // RFC 7518 section 3.3
	maxRSABits  = 8192 // beyond it a verification costs milliseconds
	minExponent = 1 << 16
)

// key is a public key of an issuer. Its address is its identity: a fetch that
// finds it unchanged keeps it, and one that does not withdraws it for good.
type key struct {
	id        string
	public    *rsa.PublicKey
	withdrawn atomic.Bool
}

func (k *key) same(o *key) bool { return k.id == o.id && k.public.Equal(o.public) }

// discovery is what matters of a discovery document (OpenID Connect Discovery
// 1.0 section 3).
type discovery struct {
	Issuer     string   `json:"issuer"`
	JWKSURI    string   `json:"jwks_uri"`
	Algorithms []string `json:"id_token_signing_alg_values_supported"`
}

// parseDiscovery reads the discovery document of an issuer and returns the URL
// of its keys. Issuer and document must name each other exactly (section 4.3),
// and the keys must lie on the issuer's own host: a document that points
// elsewhere is either an attack or a change that an operator should see.
func parseDiscovery(body []byte, issuer string) (jwksURI string, err error) {
	if _, err := parseObject(body, 0); err != nil {
		return "", fmt.Errorf("discovery document: %w", err)
	}
	var d discovery
	if err := json.Unmarshal(body, &d); err != nil {
		return "", fmt.Errorf("discovery document: %w", err)
	}
	if d.Issuer != issuer {
		return "", fmt.Errorf("discovery document is that of issuer %s", printable.Quote(d.Issuer))
	}
	if len(d.Algorithms) > 0 && !slices.Contains(d.Algorithms, algorithm) {
		return "", errors.New("discovery document: the issuer does not sign with " + algorithm)
	}
	u, err := bitbucketapi.ParseURL(d.JWKSURI)
	if err != nil {
		return "", fmt.Errorf("discovery document: jwks_uri: %w", err)
	}
	own, err := url.Parse(issuer)
	if err != nil || u.Scheme != own.Scheme || u.Host != own.Host {
		return "", fmt.Errorf("discovery document: jwks_uri %s is not on the issuer's host", printable.Quote(d.JWKSURI))
	}
	return d.JWKSURI, nil
}

// parseKeys reads a JWK Set (RFC 7517 section 5) and returns the keys in it
// that may verify a token. Others are skipped, as the RFC asks, and reported with
// the reason: at most [maxKeys] of them, as clean text. A well-formed set without
// any usable key is not an error: an issuer that withdraws everything must be obeyed.
func parseKeys(body []byte) (keys map[string]*key, skipped []string, err error) {
	if _, err := parseObject(body, 0); err != nil {
		return nil, nil, fmt.Errorf("keys: %w", err)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &set); err != nil {
		return nil, nil, fmt.Errorf("keys: %w", err)
	}
	if set.Keys == nil {
		return nil, nil, errors.New("keys: this is not a JWK Set")
	}
	if len(set.Keys) > maxKeys {
		return nil, nil, fmt.Errorf("keys: %d of them, at most %d are read", len(set.Keys), maxKeys)
	}
	keys = map[string]*key{}
	ambiguous := map[string]int{}
	for at, raw := range set.Keys {
		k, err := parseKey(raw)
		if err != nil {
			skipped = append(skipped, fmt.Sprintf("key %d: %v", at+1, err))
			continue
		}
		if other := keys[k.id]; other != nil && !other.same(k) {
			ambiguous[k.id]++
		}
		keys[k.id] = k
	}
	// RFC 7517 section 4.5 requires ids to differ: an id of two keys identifies neither.
	for _, id := range slices.Sorted(maps.Keys(ambiguous)) {
		delete(keys, id)
		skipped = append(skipped, fmt.Sprintf("kid %s: %d different keys have it", printable.Quote(id), ambiguous[id]+1))
	}
	return keys, skipped, nil
}

// jwk is what matters of a JSON Web Key (RFC 7517 section 4, RFC 7518 section
// 6.3.1). The certificates beside a key (x5c, x5t, x5u) are not read: n and e come from
// the issuer's own host.
type jwk struct {
	Type       string          `json:"kty"`
	ID         string          `json:"kid"`
	Use        string          `json:"use"`
	Algorithm  string          `json:"alg"`
	Operations []string        `json:"key_ops"`
	Modulus    string          `json:"n"`
	Exponent   string          `json:"e"`
	Private    json.RawMessage `json:"d"`
}

// parseKey reads one JWK that is an RSA key for verifying RS256.
func parseKey(raw []byte) (*key, error) {
	j, err := parseJWK(raw)
	if err != nil {
		return nil, err
	}
	public, err := j.publicKey()
	if err != nil {
		return nil, err
	}
	if err := j.check(public); err != nil {
		return nil, err
	}
	return &key{id: j.ID, public: public}, nil
}

func parseJWK(raw []byte) (*jwk, error) {
	if _, err := parseObject(raw, 0); err != nil {
		return nil, err
	}
	var j jwk
	if err := json.Unmarshal(raw, &j); err != nil {
		return nil, errors.New("not a JSON Web Key")
	}
	if j.Type != "RSA" || j.Private != nil { // a set must never hold a private key
		return nil, errors.New("not a public RSA key")
	}
	return &j, nil
}

// publicKey decodes the modulus and the exponent (RFC 7518 section 6.3.1).
func (j *jwk) publicKey() (*rsa.PublicKey, error) {
	n, err := base64.RawURLEncoding.Strict().DecodeString(strings.TrimRight(j.Modulus, "="))
	if err != nil || len(n) > maxRSABits/8+1 {
		return nil, errors.New("n is not base64url of a modulus")
	}
	e, err := base64.RawURLEncoding.Strict().DecodeString(strings.TrimRight(j.Exponent, "="))
	if err != nil || len(e) == 0 || len(e) > 4 {
		return nil, errors.New("e is not base64url of an exponent")
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}, nil
}

// check returns why the key cannot verify RS256; nil if it can.
func (j *jwk) check(public *rsa.PublicKey) error {
	switch {
	case j.ID == "" || len(j.ID) > maxKeyID || !printable.IsClean(j.ID):
		return errors.New("kid is missing or not clean")
	case j.Algorithm != "" && j.Algorithm != algorithm:
		return fmt.Errorf("kid %s: for the algorithm %s", printable.Quote(j.ID), printable.Quote(j.Algorithm))
	case !j.verifies():
		return fmt.Errorf("kid %s: for another use", printable.Quote(j.ID))
	}
	return checkStrength(j.ID, public)
}

// verifies reports whether use and key_ops permit verification (RFC 7517 sections 4.2
// and 4.3).
func (j *jwk) verifies() bool {
	return (j.Use == "" || j.Use == "sig") && (j.Operations == nil || slices.Contains(j.Operations, "verify"))
}

func checkStrength(id string, public *rsa.PublicKey) error {
	if bits := public.N.BitLen(); bits < minRSABits || bits > maxRSABits || public.N.Bit(0) == 0 {
		return fmt.Errorf("kid %s: a modulus of %d bits is out of bounds", printable.Quote(id), bits)
	}
	if e := public.E; e <= minExponent || e > 1<<31-1 || e%2 == 0 { // FIPS 186-5 appendix A.1.1
		return fmt.Errorf("kid %s: the exponent %d is out of bounds", printable.Quote(id), e)
	}
	return nil
}
