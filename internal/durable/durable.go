// Package durable replaces files so that a crash or a power failure leaves either the
// old or the new content, complete, and makes new names in a directory durable. Its
// functions are safe for concurrent use; of concurrent replacements one wins.
package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// WriteFile replaces the file at path with the contents, one after the other, and
// returns when the file and its name are durable. The file has mode 0600. After an
// error the old file is still there, or the new one whose name may not be durable.
func WriteFile(path string, contents ...[]byte) error {
	if err := Replace(path, time.Time{}, contents...); err != nil {
		return err
	}
	return SyncDirectory(filepath.Dir(path))
}

// Replace is [WriteFile] without the last step: a caller that replaces many files calls
// [SyncDirectory] once after them. modified is the modification time of the file; zero:
// now.
func Replace(path string, modified time.Time, contents ...[]byte) error {
	return ReplaceAs(path, Attributes{Mode: 0o600, UID: -1, GID: -1, Modified: modified}, contents...)
}

// Attributes are what a replaced file has besides its content.
type Attributes struct {
	Mode     fs.FileMode // permission bits, and set-user-ID, set-group-ID and sticky
	UID, GID int         // the owner; -1: the process's own (chown(2))
	Modified time.Time   // zero: now
}

// ReplaceAs is [Replace] with the attributes of the new file. The name has the new
// content only together with them.
func ReplaceAs(path string, as Attributes, contents ...[]byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+"-*.tmp") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	for _, content := range contents {
		if _, err = f.Write(content); err != nil {
			return err
		}
	}
	if err = as.set(f); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if !as.Modified.IsZero() {
		if err = os.Chtimes(f.Name(), as.Modified, as.Modified); err != nil {
			return err
		}
	}
	return os.Rename(f.Name(), path)
}

// set gives the file its owner first: chown(2) clears the set-user-ID bit.
func (as Attributes) set(f *os.File) error {
	if as.UID >= 0 || as.GID >= 0 {
		if err := f.Chown(as.UID, as.GID); err != nil {
			return err
		}
	}
	if as.Mode != 0o600 {
		return f.Chmod(as.Mode)
	}
	return nil
}

// SyncDirectory makes the names in a directory durable: what was created, renamed or
// removed in it (fsync(2)).
func SyncDirectory(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
