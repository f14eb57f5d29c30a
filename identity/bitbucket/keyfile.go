package bitbucket

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/sallyport/sallyport/internal/bitbucketapi"
	"github.com/sallyport/sallyport/internal/durable"
)

// clockStep is how far a file's time may lie in the future before the file is
// ignored: a date far ahead would keep old keys forever.
const clockStep = 5 * time.Minute

// keyFile keeps the last good keys of one issuer, so that a restart while the
// issuer is unavailable does not stop every build. A user who can write it can forge
// tokens of that issuer: it lies in a folder of 0700, is 0600 itself, and is
// not read when others may write it.
type keyFile struct {
	path string
	log  *slog.Logger
	mu   sync.Mutex
}

// keyDocument is the file's content.
type keyDocument struct {
	Version int                `json:"version"`
	Issuer  string             `json:"issuer"`
	Fetched time.Time          `json:"fetched"`
	JWKSURI string             `json:"jwks_uri"`
	Set     jose.JSONWebKeySet `json:"jwks"`
}

func newKeyFile(directory, issuer string, log *slog.Logger) (*keyFile, error) {
	f := &keyFile{path: keyFilePath(directory, issuer), log: log}
	if err := os.MkdirAll(filepath.Dir(f.path), 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of issuers' keys: %w", err)
	}
	return f, nil
}

func keyFilePath(directory, issuer string) string {
	sum := sha256.Sum256([]byte(issuer))
	return filepath.Join(directory, "issuer-keys", hex.EncodeToString(sum[:8])+".json")
}

// load returns the keys that were kept, or nil. A file that cannot be used is
// passed over with a warning: the issuer will be asked anyway.
func (f *keyFile) load(issuer string, now time.Time) *keyState {
	st, err := f.read(issuer, now)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		f.log.Warn("bitbucket: stored keys ignored", "file", f.path, "error", err)
	}
	return st
}

func (f *keyFile) read(issuer string, now time.Time) (*keyState, error) {
	info, err := os.Lstat(f.path)
	if err != nil {
		return nil, err
	}
	switch {
	case !info.Mode().IsRegular():
		return nil, errors.New("it is not a regular file")
	case info.Mode().Perm()&0o022 != 0:
		return nil, fmt.Errorf("its mode %v lets others write it; it must be 0600", info.Mode().Perm())
	case info.Size() > 2*bitbucketapi.MaxDocumentBytes:
		return nil, fmt.Errorf("it has %d bytes", info.Size())
	}
	data, err := os.ReadFile(f.path)
	if err != nil {
		return nil, err
	}
	return parseKeyDocument(data, issuer, now)
}

func parseKeyDocument(data []byte, issuer string, now time.Time) (*keyState, error) {
	var d struct {
		keyDocument
		Set json.RawMessage `json:"jwks"`
	}
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, fmt.Errorf("read it: %w", err)
	}
	switch {
	case d.Version != 1:
		return nil, fmt.Errorf("its version is %d", d.Version)
	case d.Issuer != issuer:
		return nil, errors.New("it is of another issuer")
	case d.Fetched.After(now.Add(clockStep)):
		return nil, errors.New("its time lies in the future")
	}
	keys, skipped, err := parseKeys(d.Set)
	if err != nil {
		return nil, err
	}
	return &keyState{issuer: issuer, keys: keys, skipped: skipped, fetched: d.Fetched, jwksURI: d.JWKSURI, fromDisk: true}, nil
}

// save writes the keys that are current when its turn has come. Where that
// fails the file is removed: it might hold a key that has been withdrawn.
func (f *keyFile) save(current func() *keyState) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.write(current()); err != nil {
		f.log.Error("bitbucket: store the issuer's keys failed", "file", f.path, "error", err)
		if err := os.Remove(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			f.log.Error("bitbucket: remove the file of an issuer's keys, which may hold withdrawn ones", "file", f.path, "error", err)
		}
	}
}

func (f *keyFile) write(st *keyState) error {
	d := keyDocument{Version: 1, Issuer: st.issuer, Fetched: st.fetched.UTC(), JWKSURI: st.jwksURI}
	d.Set.Keys = []jose.JSONWebKey{}
	for id, k := range st.keys {
		d.Set.Keys = append(d.Set.Keys, jose.JSONWebKey{KeyID: id, Key: k.public, Algorithm: algorithm, Use: "sig"})
	}
	data, err := json.Marshal(d)
	if err != nil {
		return err
	}
	return durable.WriteFile(f.path, data)
}
