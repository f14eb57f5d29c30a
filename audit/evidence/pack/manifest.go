package pack

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// FormatVersion is the version of a pack's files.
const FormatVersion = 1

const (
	ManifestName  = "manifest"
	manifestTitle = "sallyport evidence pack"
	unsignedHead  = "unsigned\n" + manifestTitle + "\n"
	MaxManifest   = 16 << 20
)

// A Manifest is the list of what a pack has, and how it was made. As a file it is
// a signed note (C2SP signed-note) of the signer's name, a title and JSON.
type Manifest struct {
	Format     int        `json:"format"`
	Title      string     `json:"title"`
	Parameters Parameters `json:"parameters"`
	Time       time.Time  `json:"time"`      // when the checkpoint of the pack was signed, and not when the pack was made
	TimeZone   string     `json:"time_zone"` // of all times in the pack
	Tool       string     `json:"tool"`
	Database   Database   `json:"database"`
	Checkpoint string     `json:"checkpoint"`
	Sound      bool       `json:"log_is_sound"`
	Signature  string     `json:"signature"` // by whom, or that there is none
	Population int64      `json:"population"`
	Probes     int64      `json:"population_self_tests"` // of these, probes of the self-test
	Events     int64      `json:"events"`
	Sample     []string   `json:"sample"`
	Queries    []Query    `json:"queries"`
	Files      []File     `json:"files"`
}

// Parameters are those of the command that made the pack.
type Parameters struct {
	Period
	Repositories []string    `json:"repositories"`
	Size         int64       `json:"checkpoint_size"` // 0: the first that covers the period
	Sample       int         `json:"sample"`
	Seed         string      `json:"seed"`
	SeedGiven    bool        `json:"seed_given"` // otherwise it is the root of the checkpoint
	Keys         []audit.Key `json:"keys"`
	Outside      int         `json:"checkpoints_from_outside"` // up to the size of the checkpoint
}

// File is one file of a pack.
type File struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	Digest string `json:"sha256"` // in lower-case hexadecimal
	// Content is what a compressed file holds. Another version of the compressor makes
	// other bytes of the same content.
	Content *Content `json:"content,omitempty"`
	Rows    *int64   `json:"rows,omitempty"`
	Current bool     `json:"current,omitempty"` // of now, and not of the period
}

// Content is what is in a compressed file.
type Content struct {
	Size   int64  `json:"size"`
	Digest string `json:"sha256"` // in lower-case hexadecimal
}

// Encode is the manifest as a file. Without a signer it is marked as unsigned.
func (m *Manifest) Encode(signer *audit.Signer) ([]byte, error) {
	var b bytes.Buffer
	if err := WriteJSON(&b, m); err != nil {
		return nil, err
	}
	if signer == nil {
		return append([]byte(unsignedHead), b.Bytes()...), nil
	}
	return signer.SignStatement(manifestTitle, b.String())
}

// errUnsigned is returned for an unsigned manifest.
var errUnsigned = errors.New("the manifest is not signed, so that its origin is unknown: --unsigned accepts it")

// OpenManifest reads a manifest that one of the keys has signed; by is empty where
// it is unsigned, and unsigned ones are accepted.
func OpenManifest(text []byte, keys []audit.Key, unsigned bool) (m *Manifest, by audit.Key, err error) {
	body, isUnsigned := strings.CutPrefix(string(text), unsignedHead)
	switch {
	case isUnsigned && !unsigned:
		return nil, "", errUnsigned
	case !isUnsigned:
		if body, by, err = audit.OpenStatement(text, manifestTitle, keys...); err != nil {
			return nil, "", err
		}
	}
	m, err = readManifest([]byte(body))
	return m, by, err
}

// ClaimedKey is the key that a manifest names as its signer. It is used only if no key
// was given.
func ClaimedKey(text []byte) []audit.Key {
	_, after, _ := bytes.Cut(text, []byte("\n"+manifestTitle+"\n"))
	if end := bytes.LastIndex(after, []byte("\n\n")); end >= 0 {
		after = after[:end]
	}
	var m Manifest
	if json.Unmarshal(after, &m) != nil || audit.Key(m.Signature).Check() != nil {
		return nil
	}
	return []audit.Key{audit.Key(m.Signature)}
}

func readManifest(body []byte) (*Manifest, error) {
	m := new(Manifest)
	if err := ReadJSON(body, m); err != nil {
		return nil, fmt.Errorf("the manifest cannot be read: %w", err)
	}
	if m.Format != FormatVersion {
		return nil, fmt.Errorf("the pack has format %d, and this program reads %d: use the version that made it (%.100q)", m.Format, FormatVersion, m.Tool)
	}
	if m.Parameters.Sample < 0 || m.Parameters.Sample > MaxSample {
		return nil, fmt.Errorf("the manifest has a sample of %d decisions, and at most %d are possible", m.Parameters.Sample, MaxSample)
	}
	for i, f := range m.Files {
		if !IsPath(f.Path) || f.Path == ManifestName || i > 0 && m.Files[i-1].Path >= f.Path {
			return nil, fmt.Errorf("the manifest lists %.100q, which is out of order or not a path of a pack", f.Path)
		}
	}
	return m, nil
}

// IsPath reports whether a path is one that packs have.
func IsPath(p string) bool {
	if path.Clean(p) != p || strings.HasPrefix(p, "/") || strings.HasPrefix(p, ".") {
		return false
	}
	for i := range len(p) {
		c := p[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && strings.IndexByte("-_./", c) < 0 {
			return false
		}
	}
	return p != ""
}

// File is the entry of a path.
func (m *Manifest) File(name string) (File, bool) {
	// They are in the order of their paths: readManifest checks it, and the builder sorts them.
	i, found := slices.BinarySearchFunc(m.Files, name, func(f File, name string) int { return strings.Compare(f.Path, name) })
	if !found {
		return File{}, false
	}
	return m.Files[i], true
}
