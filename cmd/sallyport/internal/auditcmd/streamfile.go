package auditcmd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/durable"
)

// followFile is a file that lines are added to. When it is moved away another one
// is made under its name.
type followFile struct {
	path string
	file *os.File
	info os.FileInfo
	size int64 // as far as it is whole; -1: it is not a regular file
}

func openFollowFile(path string) (*followFile, error) {
	f := &followFile{path: path}
	if err := f.open(); err != nil {
		return nil, cli.Invalid(fmt.Errorf("--out: %w", err))
	}
	return f, nil
}

func (f *followFile) open() error {
	file, err := os.OpenFile(f.path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return errors.Join(err, file.Close())
	}
	size := int64(-1)
	if info.Mode().IsRegular() {
		// A crash leaves a line that is not whole. Its leaf comes again.
		if size, err = wholeLines(file, info.Size()); err == nil && size < info.Size() {
			err = file.Truncate(size)
		}
		if err == nil {
			err = durable.SyncDirectory(filepath.Dir(f.path))
		}
		if err != nil {
			return errors.Join(err, file.Close())
		}
	}
	f.file, f.info, f.size = file, info, size
	return nil
}

// wholeLines is the size up to the last line break.
func wholeLines(file io.ReaderAt, size int64) (int64, error) {
	buffer := make([]byte, 64<<10)
	for end := size; end > 0; {
		begin := max(end-int64(len(buffer)), 0)
		piece := buffer[:end-begin]
		if _, err := file.ReadAt(piece, begin); err != nil {
			return 0, err
		}
		if at := bytes.LastIndexByte(piece, '\n'); at >= 0 {
			return begin + int64(at) + 1, nil
		}
		end = begin
	}
	return 0, nil
}

// write adds lines, after it has looked whether the file is still there.
func (f *followFile) write(lines []byte) error {
	if now, err := os.Stat(f.path); err != nil || !os.SameFile(now, f.info) {
		if err := f.reopen(); err != nil {
			return err
		}
	} else if f.size >= 0 && now.Size() < f.size {
		f.size = now.Size() // another process truncated it
	}
	n, err := f.file.Write(lines)
	if err == nil {
		if f.size >= 0 {
			f.size += int64(n)
		}
		return nil
	}
	if f.size >= 0 {
		err = errors.Join(err, f.file.Truncate(f.size)) // no half line
	}
	return err
}

func (f *followFile) sync() error {
	if err := f.file.Sync(); err != nil && f.size >= 0 {
		return err
	}
	return nil
}

// reopen keeps what was written to the file that was there, and opens its name
// again.
func (f *followFile) reopen() error {
	if err := f.sync(); err != nil {
		return err
	}
	old := f.file
	if err := f.open(); err != nil {
		return fmt.Errorf("open %s again: %w", f.path, err)
	}
	return old.Close()
}

func (f *followFile) close() error { return f.file.Close() }

// followStream is standard output.
type followStream struct{ w io.Writer }

func (s *followStream) write(lines []byte) error {
	_, err := s.w.Write(lines)
	return err
}

// sync is for an output that is a file. A pipe has nothing to be synced: what is
// in it is its reader's.
func (s *followStream) sync() error {
	file, ok := s.w.(*os.File)
	if !ok {
		return nil
	}
	if err := file.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOTSUP) {
		return err
	}
	return nil
}

func (s *followStream) reopen() error { return nil }
func (s *followStream) close() error  { return nil }
