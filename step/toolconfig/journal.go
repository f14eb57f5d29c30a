package toolconfig

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/internal/durable"
)

const (
	journalName = "files.json"
	// maxFileBytes bounds a file of a tool. Larger files are not changed.
	maxFileBytes = 1 << 20
)

// Journal is the list of changed files, with the backups of their contents. It is in a
// private directory of the user. A file is changed only after the journal has its entry
// and its backup, durably: after a crash at any point, [Journal.Restore] restores it.
//
// A Journal is not safe for concurrent use: the caller locks the directory.
type Journal struct {
	dir     string
	entries []entry
	next    int // number of the next backup
}

// entry is one file that is about to be changed, or was.
type entry struct {
	Tool        string    `json:"tool"`
	Path        string    `json:"path"` // without symbolic links
	Format      string    `json:"format"`
	Content     string    `json:"content"`
	Existed     bool      `json:"existed"`
	Mode        uint32    `json:"mode"` // of the original
	UID         int       `json:"uid"`
	GID         int       `json:"gid"`
	Modified    time.Time `json:"modified"`
	Backup      string    `json:"backup"`      // name in the directory of the journal; "" if the file did not exist
	Written     string    `json:"written"`     // SHA-256 of what we wrote
	Directories []string  `json:"directories"` // that we created, outermost first
}

// Problem is a file that was not configured or not restored, and why.
type Problem struct {
	Tool, Path string
	Err        error
}

func (p Problem) String() string { return p.Tool + ": " + p.Path + ": " + p.Err.Error() }

// OpenJournal reads the journal of a directory. A missing journal is empty.
func OpenJournal(dir string) (*Journal, error) {
	j := &Journal{dir: dir}
	text, err := os.ReadFile(filepath.Join(dir, journalName))
	if errors.Is(err, fs.ErrNotExist) {
		return j, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the list of changed files: %w", err)
	}
	if err := json.Unmarshal(text, &j.entries); err != nil {
		return nil, fmt.Errorf("read the list of changed files: %s: %w: restore the files from the backups beside it, then remove it", filepath.Join(dir, journalName), err)
	}
	for _, e := range j.entries {
		if n, err := strconv.Atoi(e.Backup); err == nil {
			j.next = max(j.next, n+1)
		}
	}
	return j, nil
}

// Empty reports whether no file is changed.
func (j *Journal) Empty() bool { return len(j.entries) == 0 }

// Paths returns the files that are changed.
func (j *Journal) Paths() []string {
	var paths []string
	for _, e := range j.entries {
		paths = append(paths, e.Path)
	}
	return paths
}

// Apply changes the files of the tools. A file that cannot be changed is a problem, and
// does not keep the others from being changed. The error is about the journal itself.
func (j *Journal) Apply(tools []Tool, s Settings) ([]Problem, error) {
	var problems []Problem
	for _, tool := range tools {
		if tool.files == nil {
			continue
		}
		for _, file := range tool.files(&s) {
			if err := j.apply(tool.Name, file); err != nil {
				if _, ok := errors.AsType[journalError](err); ok {
					return problems, err
				}
				problems = append(problems, Problem{tool.Name, file.Path, err})
			}
		}
	}
	return problems, nil
}

// journalError is a failure of the journal itself: no further file may be changed.
type journalError struct{ err error }

func (e journalError) Error() string { return "write the list of changed files: " + e.err.Error() }
func (e journalError) Unwrap() error { return e.err }

func (j *Journal) apply(tool string, file File) error {
	if file.Needs != "" {
		if info, err := os.Stat(file.Needs); err != nil || !info.IsDir() {
			return nil // the tool is not installed
		}
	}
	if err := trusted(filepath.Dir(file.Path)); err != nil {
		return err
	}
	path, err := resolve(file.Path)
	if err != nil {
		return err
	}
	if err := trusted(filepath.Dir(path)); err != nil {
		return err
	}
	if slices.Contains(j.Paths(), path) {
		return nil // by an earlier entry of the table, through another name
	}
	old, before, err := readFile(path)
	if err != nil {
		return err
	}
	written, err := formats[file.format].insert(old, before != nil, file.content)
	if err != nil {
		return err
	}
	e := entry{Tool: tool, Path: path, Format: file.format, Content: file.content, Written: digest(written), UID: -1, GID: -1, Mode: uint32(file.Mode)}
	if before != nil {
		e.Existed, e.Mode, e.Modified = true, uint32(before.Mode()), before.ModTime()
		e.UID, e.GID = owner(before)
	}
	if e.Directories, err = missingDirectories(filepath.Dir(path)); err != nil {
		return err
	}
	if err := j.add(&e, old); err != nil {
		return journalError{err}
	}
	if err := e.write(written, time.Time{}); err != nil {
		return errors.Join(fmt.Errorf("write the file: %w", err), j.drop(e))
	}
	return nil
}

// add makes the backup and the entry durable.
func (j *Journal) add(e *entry, old []byte) error {
	if e.Existed {
		e.Backup = strconv.Itoa(j.next)
		j.next++
		if err := durable.Replace(filepath.Join(j.dir, e.Backup), time.Time{}, old); err != nil {
			return err
		}
	}
	j.entries = append(j.entries, *e)
	return j.save()
}

// save writes the list, and makes the names of backups durable too.
func (j *Journal) save() error {
	text, err := json.MarshalIndent(j.entries, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(j.dir, journalName), append(text, '\n'))
}

// write gives the file a content, and the mode and the owner of the original.
func (e *entry) write(content []byte, modified time.Time) error {
	for _, dir := range e.Directories {
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	as := durable.Attributes{Mode: fs.FileMode(e.Mode), UID: e.UID, GID: e.GID, Modified: modified}
	if err := durable.ReplaceAs(e.Path, as, content); err != nil {
		return err
	}
	return durable.SyncDirectory(filepath.Dir(e.Path))
}

// drop restores a file that could not be written, and removes its entry.
func (j *Journal) drop(e entry) error {
	e.removeDirectories()
	j.entries = slices.DeleteFunc(j.entries, func(other entry) bool { return other.Path == e.Path })
	return j.save()
}

// resolve follows symbolic links, so that the file they lead to is replaced, not the link.
func resolve(path string) (string, error) {
	for dir, rest := path, ""; ; {
		resolved, err := filepath.EvalSymlinks(dir)
		if err == nil {
			return filepath.Join(resolved, rest), nil
		}
		if _, linkErr := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) || linkErr == nil {
			return "", err // a link that leads nowhere, or a directory that cannot be read
		}
		rest = filepath.Join(filepath.Base(dir), rest)
		if dir = filepath.Dir(dir); dir == filepath.Dir(dir) {
			return path, nil
		}
	}
}

// readFile returns a file's content and attributes; nil attributes: there is no file. It
// refuses a file of another user, and one that is not an ordinary file.
func readFile(path string) ([]byte, fs.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // of a pipe, without waiting for a writer
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, errors.New("this is not an ordinary file")
	}
	if uid, _ := owner(info); uid != os.Geteuid() {
		return nil, nil, fmt.Errorf("the file belongs to user %d: run as that user, or use --without", uid)
	}
	content, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err == nil && len(content) > maxFileBytes {
		err = fmt.Errorf("the file has more than %d bytes", maxFileBytes)
	}
	return content, info, err
}

// trusted refuses a directory that another user than the process's and root can change, by
// itself or through one that contains it: that user could replace the file by a link to
// another file of ours. The directory need not exist. Root refuses one that every user can
// write, too.
func trusted(dir string) error {
	for ; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		default:
			if uid, _ := owner(info); uid != 0 && uid != os.Geteuid() {
				return fmt.Errorf("the directory %s belongs to user %d: run as that user, or use --without", dir, uid)
			}
			if os.Geteuid() == 0 && info.Mode().Perm()&0o002 != 0 && info.Mode()&fs.ModeSticky == 0 {
				return fmt.Errorf("every user can write the directory %s: chmod o-w %s, or use --without", dir, dir)
			}
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

// missingDirectories returns the directories to create, outermost first.
func missingDirectories(dir string) ([]string, error) {
	var missing []string
	for {
		_, err := os.Lstat(dir)
		if err == nil {
			slices.Reverse(missing)
			return missing, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		missing = append(missing, dir)
		dir = filepath.Dir(dir)
	}
}

func owner(info fs.FileInfo) (uid, gid int) {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(s.Uid), int(s.Gid)
	}
	return -1, -1
}

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

func same(content []byte, sum string) bool { return bytes.Equal([]byte(digest(content)), []byte(sum)) }
