package auditdb

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path/filepath"

	auditreader "github.com/sallyport/sallyport/audit/postgres/reader"
	"github.com/sallyport/sallyport/internal/durable"
)

// OutFile is a file that comes to be whole or not at all, and never in the place
// of another. What is written to it goes to a temporary file beside it.
type OutFile struct {
	path string
	file *os.File
	sum  hash.Hash
}

// CreateOut makes the temporary file beside path, which must not exist.
func CreateOut(path string) (*OutFile, error) {
	if _, err := os.Lstat(path); err == nil {
		return nil, fmt.Errorf("--out %s: it is there already, and is not written over", path)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("--out: %w", err)
	}
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.part") // for this user alone
	if err != nil {
		return nil, fmt.Errorf("--out: %w", err)
	}
	return &OutFile{path: path, file: file, sum: sha256.New()}, nil
}

// Write writes to the temporary file.
func (o *OutFile) Write(b []byte) (int, error) {
	n, err := o.file.Write(b)
	_, _ = o.sum.Write(b[:n])
	return n, err
}

// Digest is the SHA-256 of what was written so far.
func (o *OutFile) Digest() []byte { return o.sum.Sum(nil) }

// Discard removes the temporary file. After Publish it does nothing.
func (o *OutFile) Discard() {
	if o.file != nil {
		_ = o.file.Close()
		_ = os.Remove(o.file.Name())
	}
}

// Publish records the export, and then gives the file its name. If the export cannot be
// recorded, no file with that name exists.
func (o *OutFile) Publish(ctx context.Context, querier *auditreader.Querier, x auditreader.Export) (sequence int64, err error) {
	if err := o.file.Sync(); err != nil {
		return 0, fmt.Errorf("--out: %w", err)
	}
	x.Digest = [sha256.Size]byte(o.Digest())
	if sequence, err = querier.RecordExport(ctx, x); err != nil {
		return 0, fmt.Errorf("%w; %s was not written", err, o.path)
	}
	// A link, unlike a rename, does not take the place of what came meanwhile.
	err = os.Link(o.file.Name(), o.path)
	if err != nil && !errors.Is(err, fs.ErrExist) { // a file system without links
		var placeholder *os.File
		if placeholder, err = os.OpenFile(o.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err == nil {
			_ = placeholder.Close()
			err = os.Rename(o.file.Name(), o.path)
		}
	}
	if err != nil {
		return 0, fmt.Errorf("--out: %w", err)
	}
	o.Discard()
	o.file = nil
	return sequence, durable.SyncDirectory(filepath.Dir(o.path))
}
