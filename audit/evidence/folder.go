package evidence

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/audit/evidence/pack"
	"github.com/sallyport/sallyport/internal/durable"
)

// partial ends the name of a pack that is not whole.
const partial = ".partial"

// folder is a pack that is being written: under another name until it is whole,
// so that what failed half way does not look like one.
type folder struct {
	final string
	root  *os.Root
	files []pack.File
	done  bool
}

func newFolder(final string) (*folder, error) {
	final = filepath.Clean(final) // october/ is october
	if _, err := os.Lstat(final); err == nil {
		return nil, fmt.Errorf("%s is there already: name a folder that is not", final)
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if err := os.Mkdir(final+partial, 0o700); err != nil {
		if errors.Is(err, os.ErrExist) {
			return nil, fmt.Errorf("%s is what is left of a pack that was not finished: remove it", final+partial)
		}
		return nil, err
	}
	root, err := os.OpenRoot(final + partial)
	if err != nil {
		return nil, err
	}
	return &folder{final: final, root: root}, nil
}

// finish gives the pack its name.
func (f *folder) finish() error {
	if err := f.root.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.final+partial, f.final); err != nil {
		return err
	}
	f.done = true
	return durable.SyncDirectory(filepath.Dir(f.final))
}

// abandon takes away what is not finished.
func (f *folder) abandon() {
	if f.done {
		return
	}
	_ = f.root.Close()
	_ = os.RemoveAll(f.final + partial)
}

// output is one file that is being written.
type output struct {
	folder *folder
	file   *os.File
	*bufio.Writer
	digest hash.Hash
	entry  pack.File
	zip    *compressor // nil: it is not compressed
}

// Write counts and hashes what goes to the disk.
func (o *output) count(b []byte) (int, error) {
	n, err := o.file.Write(b)
	o.digest.Write(b[:n])
	o.entry.Size += int64(n)
	return n, err
}

type countingWriter struct{ o *output }

func (w countingWriter) Write(b []byte) (int, error) { return w.o.count(b) }

func (f *folder) create(name string) (*output, error) {
	if !pack.IsPath(name) {
		return nil, fmt.Errorf("%q is not a name for a file of a pack", name)
	}
	if dir := path.Dir(name); dir != "." {
		if err := f.root.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	file, err := f.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	o := &output{folder: f, file: file, digest: sha256.New(), entry: pack.File{Path: name}}
	o.Writer = bufio.NewWriterSize(countingWriter{o}, 1<<17)
	return o, nil
}

// createCompressed is create for a file that is compressed.
func (f *folder) createCompressed(name string) (*output, error) {
	o, err := f.create(name)
	if err == nil {
		o.zip = newCompressor(countingWriter{o})
		o.Writer = bufio.NewWriterSize(o.zip, 1<<17)
	}
	return o, err
}

// scratch makes a temporary file that is not part of the pack and has no name once it
// is open.
func (f *folder) scratch() (*os.File, error) {
	const name = "scratch"
	file, err := f.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.root.Remove(name); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// close makes the file durable and lists it. rows below zero: it has none.
func (o *output) close(rows int64) error {
	err := o.Flush()
	if o.zip != nil {
		size, digest, failed := o.zip.close()
		o.entry.Content = &pack.Content{Size: size, Digest: digest}
		err = errors.Join(err, failed)
	}
	err = errors.Join(err, o.file.Sync(), o.file.Close())
	o.entry.Digest = hex.EncodeToString(o.digest.Sum(nil))
	if rows >= 0 {
		o.entry.Rows = &rows
	}
	o.entry.Current = strings.HasPrefix(o.entry.Path, pack.CurrentFolder)
	o.folder.files = append(o.folder.files, o.entry)
	return err
}

// drop closes a file without listing it.
func (o *output) drop() {
	if o.zip != nil {
		_, _, _ = o.zip.close()
	}
	_ = o.file.Close()
}

// write writes a whole file.
func (f *folder) write(name string, rows int64, fill func(*output) error) error {
	o, err := f.create(name)
	if err != nil {
		return err
	}
	if err := fill(o); err != nil {
		o.drop()
		return fmt.Errorf("write %s: %w", name, err)
	}
	return o.close(rows)
}

func (f *folder) listed() []pack.File {
	slices.SortFunc(f.files, func(a, b pack.File) int { return strings.Compare(a.Path, b.Path) })
	return f.files
}
