package bitbuckettest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256" // registers SHA-256
	_ "crypto/sha512" // registers SHA-384 and SHA-512
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"maps"
	"math/big"
)

// hashes by the last three digits of an algorithm's name (RFC 7518, 3.1).
var hashes = map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}

// SignRaw returns a compact JWS (RFC 7515, 7.1) over exactly these bytes,
// signed with the algorithm of this name whatever the header contains: RS256,
// RS384, RS512, PS256, PS384, PS512 for an RSA key, ES256, EdDSA for the
// others; an empty name means the key's own. It panics when they do not fit.
func (k *Key) SignRaw(algorithm string, header, payload []byte) string {
	if algorithm == "" {
		algorithm = k.Algorithm
	}
	input := signingInput(header, payload)
	signature, err := signatureOf(k.signer(), algorithm, []byte(input))
	if err != nil {
		panic(fmt.Sprintf("bitbuckettest: sign with %s and a key for %s: %v", algorithm, k.Algorithm, err))
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// Sign returns a compact JWS over these claims, signed with the key's own
// algorithm. The header has alg, kid and typ, then what the argument puts over
// them; a nil value takes a field away.
func (k *Key) Sign(header map[string]any, claims any) string {
	full := map[string]any{"alg": k.Algorithm, "kid": k.ID, "typ": "JWT"}
	maps.Copy(full, header)
	maps.DeleteFunc(full, func(_ string, v any) bool { return v == nil })
	return k.SignRaw("", mustJSON(full), mustJSON(claims))
}

// SignHMAC returns a compact JWS over exactly these bytes, signed with HS256,
// HS384 or HS512 and this secret.
func SignHMAC(algorithm string, secret, header, payload []byte) string {
	hash, ok := hashes[suffix(algorithm)]
	if !ok {
		panic(fmt.Sprintf("bitbuckettest: sign with %s: unknown", algorithm))
	}
	input := signingInput(header, payload)
	mac := hmac.New(hash.New, secret)
	mac.Write([]byte(input))
	return input + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// Compact joins the three parts of a JWS without signing anything.
func Compact(header, payload, signature []byte) string {
	return signingInput(header, payload) + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func signingInput(header, payload []byte) string {
	return base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(payload)
}

func suffix(algorithm string) string {
	if len(algorithm) != 5 {
		return ""
	}
	return algorithm[2:]
}

func signatureOf(key crypto.Signer, algorithm string, input []byte) ([]byte, error) {
	if private, ok := key.(ed25519.PrivateKey); ok && algorithm == "EdDSA" {
		return ed25519.Sign(private, input), nil
	}
	hash, ok := hashes[suffix(algorithm)]
	if !ok {
		return nil, fmt.Errorf("unknown algorithm")
	}
	h := hash.New()
	h.Write(input)
	digest := h.Sum(nil)
	switch private := key.(type) {
	case *rsa.PrivateKey:
		switch algorithm[:2] {
		case "RS":
			return rsa.SignPKCS1v15(rand.Reader, private, hash, digest)
		case "PS":
			options := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
			return rsa.SignPSS(rand.Reader, private, hash, digest, options)
		}
	case *ecdsa.PrivateKey:
		if algorithm == "ES256" {
			der, err := ecdsa.SignASN1(rand.Reader, private, digest)
			if err != nil {
				return nil, err
			}
			var rs struct{ R, S *big.Int }
			if _, err := asn1.Unmarshal(der, &rs); err != nil {
				return nil, err
			}
			return append(rs.R.FillBytes(make([]byte, 32)), rs.S.FillBytes(make([]byte, 32))...), nil // RFC 7518, 3.4
		}
	}
	return nil, fmt.Errorf("algorithm and key do not fit")
}
