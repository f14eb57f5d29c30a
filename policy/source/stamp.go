package source

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/sallyport/sallyport/policy"
)

// Folder is a directory that is checked again and again. Reading one with the
// rules of 50,000 repositories takes seconds; to see that none of its files has
// changed takes a part of that. Safe for concurrent use.
type Folder struct {
	path string

	mu    sync.Mutex
	stamp stamp
	read  *policy.Snapshot // what was read with this stamp; nil: nothing
	at    time.Time        // when that was
}

// NewFolder is the policy tree at path.
func NewFolder(path string) *Folder { return &Folder{path: path} }

// Path is where it is.
func (f *Folder) Path() string { return f.path }

// Read returns what [Directory] does, and the same snapshot as long as every
// file has the device, number, size, times and mode that it had when it was read,
// for [readAgain] at most.
func (f *Folder) Read(ctx context.Context) (*policy.Snapshot, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	began := time.Now()
	// The path may be a link that a deployment sets again: what is checked and
	// what is read are where it leads now.
	path, err := filepath.EvalSymlinks(f.path)
	if err != nil {
		path = f.path // Directory reports what is wrong with it
	}
	now, err := takeStamp(ctx, path)
	if err == nil && f.read != nil && now.sum == f.stamp.sum && f.stamp.settled && began.Sub(f.at) < readAgain {
		return f.read, nil
	}
	f.read = nil
	snapshot, readErr := Directory(ctx, path)
	// A file that is written to within the grain of the file system's clock looks
	// as it did before: what was changed just now is read again the next time.
	now.settled = now.settled && err == nil && began.Sub(now.latest) > settling
	if readErr == nil {
		f.stamp, f.read, f.at = now, snapshot, began
	}
	return snapshot, readErr
}

// settling is longer than the grain of any file system's clock (FAT has two
// seconds), and than a small difference to a file server's.
const settling = 5 * time.Second

// readAgain is how long what was read is believed for the looks of its files. Some
// changes cannot be seen from outside: what is written through a memory map has the
// time of the first write, and a file server may give the times that it likes.
const readAgain = 10 * time.Minute

// stamp is what a tree looks like from outside its files.
type stamp struct {
	sum     [sha256.Size]byte
	latest  time.Time // the latest change
	settled bool      // nothing in it can change unseen
}

// takeStamp checks everything that [Directory] would read, and reads nothing.
func takeStamp(ctx context.Context, root string) (stamp, error) {
	directory, err := os.OpenRoot(root)
	if err != nil {
		return stamp{}, err
	}
	defer directory.Close()
	s := stamp{settled: true}
	h := sha256.New()
	var b []byte
	err = walkFolders(ctx, directory.FS(), defaultTreeBounds, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, errFolderTooLarge):
			fmt.Fprintf(h, "%s is too large\x00", path)
			return fs.SkipDir
		case err != nil:
			return err
		case entry.IsDir() || !policy.Belongs(path):
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		device, number, changed, ok := changeOf(info)
		// What a link leads to can change without the link.
		if !ok || !info.Mode().IsRegular() {
			s.settled = false
		}
		if changed.After(s.latest) {
			s.latest = changed
		}
		b = binary.AppendUvarint(b[:0], uint64(len(path)))
		b = append(b, path...)
		for _, n := range []int64{info.Size(), int64(info.Mode()), info.ModTime().UnixNano(), changed.UnixNano(), int64(device), int64(number)} {
			b = binary.BigEndian.AppendUint64(b, uint64(n))
		}
		h.Write(b)
		return nil
	})
	h.Sum(s.sum[:0])
	return s, err
}
