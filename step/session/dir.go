// Package session is the state of a started forwarder: a private directory of the user,
// and the control socket in it, by which stop, report and doctor reach the forwarder.
//
// The directory separates users, not steps: two steps that run as one user share it,
// unless SALLYPORT_STEP_SESSION names different directories.
package session

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// Variable is the environment variable that names the directory of a session.
const Variable = "SALLYPORT_STEP_SESSION"

const (
	socketName  = "control.sock"
	lockName    = "lock"
	runningName = "running"
)

// Dir is the directory of a session: absolute, of the process's user, with mode 0700.
type Dir struct{ path string }

// Path returns the directory that the environment names: SALLYPORT_STEP_SESSION, or
// sallyport-step-UID in the directory for temporary files.
func Path(getenv func(string) string) (string, error) {
	path := getenv(Variable)
	if path == "" {
		tmp := getenv("TMPDIR")
		if tmp == "" {
			tmp = "/tmp"
		}
		path = filepath.Join(tmp, "sallyport-step-"+strconv.Itoa(os.Geteuid()))
	}
	if !filepath.IsAbs(path) {
		return "", fmt.Errorf("session: the directory %q is not absolute: set %s or TMPDIR to an absolute path", path, Variable)
	}
	return filepath.Clean(path), nil
}

// Create returns the directory, and creates it if it does not exist. It refuses a
// directory that another user could have prepared.
func Create(path string) (Dir, error) {
	if err := checkAncestors(path); err != nil {
		return Dir{}, err
	}
	for {
		if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return Dir{}, fmt.Errorf("session: create the directory: %w", err)
		}
		d, err := Open(path)
		if !errors.Is(err, fs.ErrNotExist) { // else a session that ends removed it
			return d, err
		}
	}
}

// Open returns an existing directory. It refuses one that another user can open, prepare
// or replace. The error is [fs.ErrNotExist] if there is none.
func Open(path string) (Dir, error) {
	return open(path, checkAncestors)
}

func open(path string, checkAncestors func(path string) error) (Dir, error) {
	if err := checkAncestors(path); err != nil {
		return Dir{}, err
	}
	info, err := os.Lstat(path)
	if err != nil {
		return Dir{}, fmt.Errorf("session: %w", err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.IsDir():
		return Dir{}, fmt.Errorf("session: %s is not a directory: remove it", path)
	case !ok || int(stat.Uid) != os.Geteuid():
		return Dir{}, fmt.Errorf("session: the directory %s belongs to another user: set TMPDIR to a directory of your own", path)
	case info.Mode().Perm()&0o077 != 0:
		return Dir{}, fmt.Errorf("session: other users may open the directory %s (mode %04o): chmod 700 %s", path, info.Mode().Perm(), path)
	}
	return Dir{path}, nil
}

// Path is the directory's path.
func (d Dir) Path() string { return d.path }

// Lock waits for the session's lock, which start and stop hold, and returns a function
// that releases it. The lock ends with the process, too.
func (d Dir) Lock() (unlock func(), err error) {
	name := filepath.Join(d.path, lockName)
	for {
		f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
		if errors.Is(err, fs.ErrNotExist) { // the directory was removed
			if _, err := Create(d.path); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("session: open the lock: %w", err)
		}
		if err := flock(f, syscall.LOCK_EX); err != nil {
			_ = f.Close()
			return nil, fmt.Errorf("session: wait for the lock: %w", err)
		}
		// A holder removes the file together with the directory: then this lock is of a
		// file that no other process opens.
		held, err := f.Stat()
		if err != nil {
			_ = f.Close()
			return nil, fmt.Errorf("session: %w", err)
		}
		if now, err := os.Lstat(name); err == nil && os.SameFile(held, now) {
			return func() { _ = f.Close() }, nil
		}
		_ = f.Close()
	}
}

// MarkRunning takes the lock that a forwarder, or a run, holds as long as its process
// lives. The error means that another process has it.
func (d Dir) MarkRunning() error {
	f, err := os.OpenFile(filepath.Join(d.path, runningName), os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("session: %w", err)
	}
	if err := flock(f, syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return fmt.Errorf("session: another forwarder serves the directory: %w", err)
	}
	running = append(running, f)
	return nil
}

// running keeps the files of MarkRunning open: a file that is collected loses its lock.
var running []*os.File

// ClearRunning releases the lock of [Dir.MarkRunning] before the process ends.
func (d Dir) ClearRunning() {
	for _, f := range running {
		_ = f.Close()
	}
	running = nil
}

// WaitEnded returns when no forwarder holds the lock of [Dir.MarkRunning], or with an
// error when the context ends.
func (d Dir) WaitEnded(ctx context.Context) error {
	f, err := os.OpenFile(filepath.Join(d.path, runningName), os.O_RDWR|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("session: %w", err)
	}
	ended := make(chan error, 1)
	go func() {
		ended <- flock(f, syscall.LOCK_EX)
		_ = f.Close()
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return fmt.Errorf("session: a forwarder or a run still uses %s: wait for its end: %w", d.path, context.Cause(ctx))
	}
}

func flock(f *os.File, how int) error {
	for {
		if err := syscall.Flock(int(f.Fd()), how); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// Remove removes the directory of an ended session. The caller holds the lock. A
// directory with other files, such as originals that could not be restored, remains.
func (d Dir) Remove() error {
	for _, name := range []string{socketName, runningName, lockName} {
		if err := os.Remove(filepath.Join(d.path, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("session: %w", err)
		}
	}
	if err := os.Remove(d.path); err != nil && !errors.Is(err, syscall.ENOTEMPTY) && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("session: %w", err)
	}
	return nil
}
