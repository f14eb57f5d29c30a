package source

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/sallyport/sallyport/internal/durable"
	"github.com/sallyport/sallyport/policy"
)

// Kept is the last good policy on the local disk, for a start at which its source
// cannot be reached or offers nothing that can decide. It is one file: a line of
// JSON that names the revision, and the content that the digest is of. A user
// who can write the file can change the policy of such a start, as a user who can
// write the policy's directory can. The digest guards against a faulty disk.
//
// Not safe for concurrent use by several processes: each has its own directory.
type Kept struct {
	path         string
	findings     string
	repositories string
}

// KeptPolicy is what [Kept] holds.
type KeptPolicy struct {
	Snapshot  *policy.Snapshot
	Origin    string    // the source that it came from, in its own words
	Confirmed time.Time // when that source was last seen to offer it
	// Findings are what the loader has found out of the content, in its own words;
	// nil: none. They have a file of their own beside the policy, and are nothing
	// that a policy needs: where they are lost or damaged, it is checked again.
	Findings []byte
	// Repositories are those whose rules of an earlier revision are in force. They have a
	// file of their own beside the policy: where that is lost or damaged, these
	// repositories have none, and RepositoriesError is the reason.
	Repositories      []policy.KeptRepository
	RepositoriesError error
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
	maxFindings  = 64 << 20
	maxKeptHeads = 16 << 20 // the first line of the file of repositories
)

// NewKept keeps in directory, which is made when something is kept.
func NewKept(directory string) *Kept {
	path := filepath.Join(directory, "last-good")
	return &Kept{path, path + "-findings", path + "-repositories"}
}

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
	// The rules that repositories keep come first: they are of no use to the policy
	// before this one, and needed by this one.
	tooLarge := saveRepositories(k.repositories, p.Repositories)
	if err := durable.Replace(k.path, p.Confirmed, append(head, '\n'), p.Snapshot.Content()); err != nil {
		return err
	}
	// The findings name their policy: those of the previous policy do not count for
	// this one, whenever the machine stops.
	if p.Findings == nil {
		err = os.Remove(k.findings)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	} else {
		err = durable.Replace(k.findings, p.Confirmed, p.Findings)
	}
	if err != nil {
		return err
	}
	return errors.Join(tooLarge, durable.SyncDirectory(directory))
}

// Confirm records that the source offered what is kept: at becomes the file's
// modification time.
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
	text, at, err := readKept(k.path, maxKeptBytes)
	if err != nil {
		return nil, err
	}
	p, err := parseKept(text)
	if err != nil {
		return nil, err
	}
	p.Confirmed = at
	if p.Findings, _, err = readKept(k.findings, maxFindings); err != nil {
		p.Findings = nil // it is checked again
	}
	p.Repositories, p.RepositoriesError = k.loadRepositories()
	return p, nil
}

func (k *Kept) loadRepositories() ([]policy.KeptRepository, error) {
	text, _, err := readKept(k.repositories, maxKeptRepositories+maxKeptHeads)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		var list []policy.KeptRepository
		if list, err = parseRepositories(text); err == nil {
			return list, nil
		}
	}
	return nil, fmt.Errorf("the rules that repositories keep, in %s: %w", k.repositories, err)
}

// readKept reads a file of ours and the time of its change.
func readKept(path string, limit int64) ([]byte, time.Time, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, time.Time{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, time.Time{}, err
	}
	if !info.Mode().IsRegular() || info.Size() > limit {
		return nil, time.Time{}, errors.New("it is not a file that this program wrote")
	}
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	return text, info.ModTime(), err
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
