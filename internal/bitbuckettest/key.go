package bitbuckettest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"slices"
	"sync"
)

// rsaPool keeps the RSA keys of closed servers for later ones, since making one
// takes longer than most tests. No two servers that are open at once share one.
var rsaPool struct {
	mu   sync.Mutex
	idle []*rsa.PrivateKey
}

const rsaBits = 2048

func takeRSA() *rsa.PrivateKey {
	rsaPool.mu.Lock()
	if n := len(rsaPool.idle); n > 0 {
		k := rsaPool.idle[n-1]
		rsaPool.idle = rsaPool.idle[:n-1]
		rsaPool.mu.Unlock()
		return k
	}
	rsaPool.mu.Unlock() // several can be made at once
	k, err := rsa.GenerateKey(rand.Reader, rsaBits)
	if err != nil {
		panic(fmt.Sprintf("bitbuckettest: generate an RSA key: %v", err))
	}
	return k
}

// NewKey makes a key that no workspace publishes: RS256 (RSA of 2048 bits),
// ES256 (P-256) or EdDSA (Ed25519). An empty id means a new one.
func (s *Server) NewKey(id, algorithm string) *Key {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newKey(id, algorithm)
}

func (s *Server) newKey(id, algorithm string) *Key {
	switch algorithm {
	case "RS256", "ES256", "EdDSA":
	default:
		panic(fmt.Sprintf("bitbuckettest: new key: unknown algorithm %q", algorithm))
	}
	if s.closed {
		panic("bitbuckettest: new key after Close")
	}
	if id == "" {
		id = s.newUUID()
	}
	k := &Key{ID: id, Algorithm: algorithm}
	if algorithm == "RS256" {
		s.rsaKeys = append(s.rsaKeys, k)
	}
	return k
}

// signer returns the private key, making it the first time.
func (k *Key) signer() crypto.Signer {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.released {
		panic("bitbuckettest: a key is used after its server's Close")
	}
	if k.private != nil {
		return k.private
	}
	var err error
	switch k.Algorithm {
	case "RS256":
		k.private = takeRSA()
	case "ES256":
		k.private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "EdDSA":
		_, k.private, err = ed25519.GenerateKey(rand.Reader)
	}
	if err != nil {
		panic(fmt.Sprintf("bitbuckettest: generate a key for %s: %v", k.Algorithm, err))
	}
	return k.private
}

// release gives an RSA key back to the pool.
func (k *Key) release() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.released = true
	if key, ok := k.private.(*rsa.PrivateKey); ok {
		rsaPool.mu.Lock()
		rsaPool.idle = append(rsaPool.idle, key)
		rsaPool.mu.Unlock()
	}
	k.private = nil
}

// Public returns the public key.
func (k *Key) Public() crypto.PublicKey { return k.signer().Public() }

// PublicPEM returns the public key as PEM (SubjectPublicKeyInfo), which is also
// the secret of the classic confusion of HS256 with RS256 (CVE-2015-9235).
func (k *Key) PublicPEM() []byte {
	der, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		panic(fmt.Sprintf("bitbuckettest: encode a public key: %v", err))
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// JWK returns the public key as keys.json lists it (RFC 7517).
func (k *Key) JWK() map[string]any {
	jwk := map[string]any{"kid": k.ID, "alg": k.Algorithm, "use": "sig"}
	encode := base64.RawURLEncoding.EncodeToString
	switch public := k.Public().(type) {
	case *rsa.PublicKey:
		e := binary.BigEndian.AppendUint32(nil, uint32(public.E))
		e = e[slices.IndexFunc(e, func(b byte) bool { return b != 0 }):]
		jwk["kty"], jwk["n"], jwk["e"] = "RSA", encode(public.N.Bytes()), encode(e)
	case *ecdsa.PublicKey:
		point, err := public.Bytes() // 4, x, y
		if err != nil {
			panic(fmt.Sprintf("bitbuckettest: encode a public key: %v", err))
		}
		jwk["kty"], jwk["crv"] = "EC", "P-256"
		jwk["x"], jwk["y"] = encode(point[1:33]), encode(point[33:])
	case ed25519.PublicKey:
		jwk["kty"], jwk["crv"], jwk["x"] = "OKP", "Ed25519", encode(public)
	}
	return jwk
}

// Keys returns what the workspace publishes, the current key last.
func (w *Workspace) Keys() []*Key {
	w.server.mu.Lock()
	defer w.server.mu.Unlock()
	return slices.Clone(w.keys)
}

// Key returns the current key, with which the workspace's tokens are signed.
func (w *Workspace) Key() *Key {
	w.server.mu.Lock()
	defer w.server.mu.Unlock()
	return w.key
}

// RotateKey makes a new current key and returns it. With overlap the older keys
// stay published; without it they are withdrawn at once.
func (w *Workspace) RotateKey(overlap bool) *Key {
	w.server.mu.Lock()
	defer w.server.mu.Unlock()
	w.key = w.server.newKey("", "RS256")
	if !overlap {
		w.keys = nil
	}
	w.keys = append(w.keys, w.key)
	return w.key
}

// RemoveKey withdraws a key from what is published and reports whether it was
// there. The current key still signs when it is withdrawn, until RotateKey.
func (w *Workspace) RemoveKey(id string) bool {
	w.server.mu.Lock()
	defer w.server.mu.Unlock()
	n := len(w.keys)
	w.keys = slices.DeleteFunc(w.keys, func(k *Key) bool { return k.ID == id })
	return len(w.keys) < n
}

// Publish adds a key to what the workspace publishes, before the current one,
// whatever its algorithm and even when its id is there already.
func (w *Workspace) Publish(k *Key) {
	w.server.mu.Lock()
	defer w.server.mu.Unlock()
	w.keys = slices.Insert(w.keys, 0, k)
}
