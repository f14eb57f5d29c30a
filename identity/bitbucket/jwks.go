package bitbucket

import (
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"sync/atomic"

	"github.com/go-jose/go-jose/v4"
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
		return "", fmt.Errorf("discovery document is that of issuer %s", quote(d.Issuer))
	}
	if len(d.Algorithms) > 0 && !slices.Contains(d.Algorithms, algorithm) {
		return "", errors.New("discovery document: the issuer does not sign with " + algorithm)
	}
	u, err := parseURL(d.JWKSURI)
	if err != nil {
		return "", fmt.Errorf("discovery document: jwks_uri: %w", err)
	}
	own, err := url.Parse(issuer)
	if err != nil || u.Scheme != own.Scheme || u.Host != own.Host {
		return "", fmt.Errorf("discovery document: jwks_uri %s is not on the issuer's host", quote(d.JWKSURI))
	}
	return d.JWKSURI, nil
}

// parseKeys reads a JWK Set (RFC 7517 section 5) and returns the keys in it
// that may verify a token. Others are passed over, as the RFC asks, and counted.
// A well-formed set without any usable key is not an error: an issuer that
// withdraws everything must be obeyed.
func parseKeys(body []byte) (keys map[string]*key, passed int, err error) {
	if _, err := parseObject(body, 0); err != nil {
		return nil, 0, fmt.Errorf("keys: %w", err)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &set); err != nil {
		return nil, 0, fmt.Errorf("keys: %w", err)
	}
	if set.Keys == nil {
		return nil, 0, errors.New("keys: this is not a JWK Set")
	}
	if len(set.Keys) > maxKeys {
		return nil, 0, fmt.Errorf("keys: %d of them, at most %d are read", len(set.Keys), maxKeys)
	}
	keys = map[string]*key{}
	ambiguous := map[string]bool{}
	for _, raw := range set.Keys {
		k, err := parseKey(raw)
		if err != nil {
			passed++
			continue
		}
		if other := keys[k.id]; other != nil && !other.same(k) {
			ambiguous[k.id] = true
		}
		keys[k.id] = k
	}
	// RFC 7517 section 4.5 wants ids to differ: one id for two keys says nothing.
	for id := range ambiguous {
		delete(keys, id)
		passed += 2
	}
	return keys, passed, nil
}

// parseKey reads one JWK that is an RSA key for verifying RS256.
func parseKey(raw []byte) (*key, error) {
	var use struct {
		KeyOps []string `json:"key_ops"`
	}
	if err := json.Unmarshal(raw, &use); err != nil {
		return nil, err
	}
	var j jose.JSONWebKey
	if err := j.UnmarshalJSON(raw); err != nil {
		return nil, err
	}
	public, ok := j.Key.(*rsa.PublicKey) // not a private one, which a set must never hold
	switch {
	case !ok:
		return nil, errors.New("not a public RSA key")
	case j.KeyID == "" || len(j.KeyID) > maxKeyID || !isCleanText(j.KeyID):
		return nil, errors.New("kid is missing or not clean")
	case j.Algorithm != "" && j.Algorithm != algorithm:
		return nil, errors.New("for another algorithm")
	case j.Use != "" && j.Use != "sig", use.KeyOps != nil && !slices.Contains(use.KeyOps, "verify"):
		return nil, errors.New("for another use")
	case public.N.BitLen() < minRSABits || public.N.BitLen() > maxRSABits || public.N.Bit(0) == 0:
		return nil, errors.New("modulus out of bounds")
	case public.E <= minExponent || public.E > 1<<31-1 || public.E%2 == 0: // FIPS 186-5 appendix A.1.1
		return nil, errors.New("exponent out of bounds")
	}
	return &key{id: j.KeyID, public: public}, nil
}
