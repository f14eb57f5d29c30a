package source

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/sallyport/sallyport/policy"
)

// Kept is the last good policy on the local disk, for a start at which its source
// cannot be reached or offers nothing that can decide. It is one file: a line of
// JSON that names the revision, and the content that the digest is of. Whoever
// can write the file can change what decides at such a start, as whoever can
// write the policy's directory can; the digest is there against a disk that lies.
//
// Not safe for concurrent use by several processes: each has its own directory.
type Kept struct {
	path string
}

// KeptPolicy is what [Kept] holds.
type KeptPolicy struct {
	Snapshot  *policy.Snapshot
	Origin    string    // the source that it came from, in its own words
	Confirmed time.Time // when that source was last seen to offer it
}

// keptHead is the file's first line.
type keptHead struct {
	Format int    `json:"format"`
	Digest string `json:"digest"`
	Commit string `json:"commit,omitempty"`
	Origin string `json:"origin"`
}

const (
	keptFormat   = 1
	maxKeptHead  = 8 << 10
	maxKeptBytes = MaxBytes + MaxFiles*maxPathBytes + 1<<20 // paths, lengths, and the library
)

// NewKept keeps in directory, which is made when something is kept.
func NewKept(directory string) *Kept { return &Kept{filepath.Join(directory, "last-good")} }

// Save keeps a policy in the place of the one before. It returns when that is on
// disk; on an error the one before is still there.
func (k *Kept) Save(p KeptPolicy) error {
	if err := k.save(p); err != nil {
		return fmt.Errorf("keep the policy on disk: %w", err)
	}
	return nil
}

func (k *Kept) save(p KeptPolicy) error {
	directory := filepath.Dir(k.path)
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return err
	}
	head, err := json.Marshal(keptHead{keptFormat, p.Snapshot.Digest, p.Snapshot.Commit, p.Origin})
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(directory, "last-good-*.tmp") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := f.Write(append(head, '\n')); err != nil {
		return err
	}
	if _, err := f.Write(p.Snapshot.Content()); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Chtimes(f.Name(), p.Confirmed, p.Confirmed); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), k.path); err != nil {
		return err
	}
	d, err := os.Open(directory)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Confirm notes that the source was seen to offer what is kept. The file's time
// of change tells it.
func (k *Kept) Confirm(at time.Time) error {
	if err := os.Chtimes(k.path, at, at); err != nil {
		return fmt.Errorf("note that the kept policy is current: %w", err)
	}
	return nil
}

// Load returns what is kept. The error wraps [fs.ErrNotExist] where nothing is.
func (k *Kept) Load() (*KeptPolicy, error) {
	p, err := k.load()
	if err != nil {
		return nil, fmt.Errorf("the policy that was kept in %s: %w", k.path, err)
	}
	return p, nil
}

func (k *Kept) load() (*KeptPolicy, error) {
	f, err := os.Open(k.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxKeptBytes {
		return nil, errors.New("it is not a file that this program wrote")
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeptBytes+1))
	if err != nil {
		return nil, err
	}
	p, err := parseKept(text)
	if err != nil {
		return nil, err
	}
	p.Confirmed = info.ModTime()
	return p, nil
}

func parseKept(text []byte) (*KeptPolicy, error) {
	line, _, ok := bytes.Cut(text[:min(len(text), maxKeptHead)], []byte{'\n'})
	if !ok {
		return nil, errors.New("its first line does not end")
	}
	content := text[len(line)+1:]
	var head keptHead
	if err := json.Unmarshal(line, &head); err != nil {
		return nil, fmt.Errorf("its first line: %w", err)
	}
	if head.Format != keptFormat {
		return nil, fmt.Errorf("its format is %d, and this program reads %d", head.Format, keptFormat)
	}
	snapshot, err := policy.ParseContent(content, head.Commit)
	if err != nil {
		return nil, err
	}
	if snapshot.Digest != head.Digest {
		return nil, fmt.Errorf("its content has the digest %s and not %s: it was damaged", snapshot.Digest, head.Digest)
	}
	return &KeptPolicy{Snapshot: snapshot, Origin: head.Origin}, nil
}
