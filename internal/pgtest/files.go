package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/sallyport/sallyport/internal/pgembed"
)

const (
	// prefix begins the name of every server's directory.
	prefix = "sallyport-pgtest-"

	// lockName is a file in it that its process holds locked.
	lockName = "in-use"
)

// memory is a file system in memory, on Linux. A server without durability runs
// there: CREATE DATABASE makes 300 files, which takes a disk's file system ten
// times as long.
const memory = "/dev/shm"

// enoughMemory is what has to be free there, in bytes. Containers often give it
// 64 MB, which a few databases fill.
const enoughMemory = 2 << 30

// parentFor is where a server's directory is made.
func parentFor(noSync bool) string {
	if noSync && runtime.GOOS == "linux" {
		var system syscall.Statfs_t
		if err := syscall.Statfs(memory, &system); err == nil && system.Bavail*uint64(system.Bsize) >= enoughMemory {
			return memory
		}
	}
	return os.TempDir()
}

// newDirectory makes a directory for a server, with a short path, for a unix
// socket has to fit in, and marks it as used.
func newDirectory(parent string) (string, *os.File, error) {
	directory, err := os.MkdirTemp(parent, prefix)
	if err != nil {
		return "", nil, err
	}
	// Locked under another name first: sweep must not see it unlocked.
	fresh := filepath.Join(directory, lockName+".new")
	lock, err := os.Create(fresh)
	if err != nil {
		return "", nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", nil, fmt.Errorf("locking %s: %w", fresh, err)
	}
	return directory, lock, os.Rename(fresh, filepath.Join(directory, lockName))
}

// sweep removes what processes that did not clean up have left: directories of
// ours whose lock is free and whose server has ended.
func sweep(parent string) {
	found, _ := filepath.Glob(filepath.Join(parent, prefix+"*"))
	for _, directory := range found {
		info, err := os.Lstat(directory)
		if err != nil || !info.IsDir() || info.Sys().(*syscall.Stat_t).Uid != uint32(os.Geteuid()) {
			continue
		}
		lock, err := os.Open(filepath.Join(directory, lockName))
		if err != nil {
			continue // being made
		}
		if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			if _, err := pgembed.Locate(filepath.Join(directory, "postgresql")); errors.Is(err, pgembed.ErrNotRunning) {
				_ = os.RemoveAll(directory)
			}
		}
		lock.Close()
	}
}

// copyTemplate puts a copy of a freshly initialised cluster into a directory
// that pgembed will start. Copying takes a tenth of the time that initdb does.
func copyTemplate(directory string) error {
	source, err := templateCluster()
	if err != nil {
		return err
	}
	return copyCluster(source, directory)
}

// copyCluster copies the data of a cluster that no server uses into a directory that
// pgembed will start.
func copyCluster(source, directory string) error {
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return err
	}
	if err := copyTree(source, filepath.Join(directory, "data")); err != nil {
		return errors.Join(err, os.RemoveAll(filepath.Join(directory, "data")))
	}
	return nil
}

// templateCluster is the cached cluster for the PostgreSQL of this machine and
// this user. It is made once, under a lock, and renamed into place when whole.
func templateCluster() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	binaries, err := pgembed.Find(ctx, "")
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	parent := filepath.Join(cache, "sallyport", "pgtest")
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(filepath.Join(parent, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}
	ready := filepath.Join(parent, fmt.Sprintf("%s-%d", binaries.Version, os.Geteuid()))
	if _, err := os.Stat(ready); err == nil {
		return filepath.Join(ready, "data"), nil
	}
	making := ready + ".new"
	if err := os.RemoveAll(making); err != nil {
		return "", err
	}
	server, err := pgembed.Start(ctx, pgembed.Config{Directory: making, NoSync: true})
	if err != nil {
		return "", err
	}
	if err := server.Close(); err != nil {
		return "", err
	}
	return filepath.Join(ready, "data"), os.Rename(making, ready)
}

// copyTree copies directories and regular files with their owner, readable by
// that owner only; a fresh cluster holds nothing else.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		target := filepath.Join(to, relative)
		switch {
		case entry.IsDir():
			err = os.Mkdir(target, 0o700)
		case entry.Type().IsRegular():
			err = copyFile(path, target)
		default:
			err = fmt.Errorf("%s is neither file nor directory", path)
		}
		if err != nil {
			return err
		}
		owner := info.Sys().(*syscall.Stat_t)
		return os.Lchown(target, int(owner.Uid), int(owner.Gid))
	})
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
