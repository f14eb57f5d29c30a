package toolconfig

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/durable"
)

// Restore restores every file of the journal, the last change first, and empties the
// journal. A file that was edited since it was changed keeps the edit: only our part is
// removed from it. If that is not possible, the file is left as it is, its original stays
// in the directory of the journal, and a problem names both.
func (j *Journal) Restore() ([]Problem, error) {
	var problems []Problem
	for len(j.entries) > 0 {
		e := j.entries[len(j.entries)-1]
		kept := ""
		if err := j.restore(e); err != nil {
			if e.Backup != "" {
				kept = j.keptName(e)
				err = fmt.Errorf("%w; the original is %s", err, kept)
			}
			problems = append(problems, Problem{e.Tool, e.Path, err})
		}
		if err := j.forget(e, kept); err != nil {
			return problems, err
		}
	}
	if err := os.Remove(filepath.Join(j.dir, journalName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return problems, err
	}
	return problems, durable.SyncDirectory(j.dir)
}

// keptName returns a new name for an original that is still needed.
func (j *Journal) keptName(e entry) string {
	for n := 1; ; n++ {
		name := filepath.Join(j.dir, fmt.Sprintf("original-%d-%s", n, filepath.Base(e.Path)))
		if _, err := os.Lstat(name); err != nil {
			return name
		}
	}
}

// forget removes the last entry, durably, and then its backup. kept is the name that the
// backup gets if it is still needed.
func (j *Journal) forget(e entry, kept string) error {
	if kept != "" {
		if err := os.Rename(filepath.Join(j.dir, e.Backup), kept); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	j.entries = j.entries[:len(j.entries)-1]
	if err := j.save(); err != nil {
		return err
	}
	if e.Backup != "" && kept == "" {
		if err := os.Remove(filepath.Join(j.dir, e.Backup)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (j *Journal) restore(e entry) error {
	var original []byte
	if e.Existed {
		var err error
		if original, err = os.ReadFile(filepath.Join(j.dir, e.Backup)); err != nil {
			return fmt.Errorf("read the backup: %w", err)
		}
	}
	e.removeTemporary()
	current, info, err := readFile(e.Path)
	switch {
	case err != nil:
		return err
	case info == nil && !e.Existed:
		e.removeDirectories()
		return nil // it was never written, or was removed
	case info == nil:
		return errors.New("the file was removed after start: it stays removed")
	case e.Existed && bytes.Equal(current, original):
		return nil // it was never changed
	case !same(current, e.Written):
		return e.removePart(current, original, info)
	case !e.Existed:
		return e.removeFile()
	}
	return e.write(original, e.Modified)
}

// removePart removes our part from a file that was edited, and keeps its present mode and
// owner.
func (e *entry) removePart(current, original []byte, info fs.FileInfo) error {
	cleaned, err := formats[e.Format].remove(current, original, e.Content)
	if err != nil {
		return fmt.Errorf("the file was edited after start and is left as it is: %w", err)
	}
	e.Mode = uint32(info.Mode())
	e.UID, e.GID = owner(info)
	return e.write(cleaned, time.Time{})
}

func (e *entry) removeFile() error {
	if err := os.Remove(e.Path); err != nil {
		return err
	}
	if err := durable.SyncDirectory(filepath.Dir(e.Path)); err != nil {
		return err
	}
	e.removeDirectories()
	return nil
}

// removeDirectories removes the directories that we created and that are empty.
func (e *entry) removeDirectories() {
	for _, dir := range slices.Backward(e.Directories) {
		if os.Remove(dir) != nil {
			return // it is in use
		}
	}
}

// removeTemporary removes what a crash left of a write: internal/durable writes into
// NAME-DIGITS.tmp first.
func (e *entry) removeTemporary() {
	left, err := filepath.Glob(filepath.Join(filepath.Dir(e.Path), "*.tmp"))
	if err != nil {
		return // a directory with a pattern in its name
	}
	for _, path := range left {
		number, ours := strings.CutPrefix(strings.TrimSuffix(filepath.Base(path), ".tmp"), filepath.Base(e.Path)+"-")
		if ours && number != "" && strings.Trim(number, "0123456789") == "" {
			_ = os.Remove(path)
		}
	}
}
