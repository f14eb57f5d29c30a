package pgembed

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ErrInUse is returned, wrapped, by Start when another living process runs a
// server in the directory.
var ErrInUse = errors.New("the directory is in use")

// pollInterval is how often a condition outside of this process is checked.
const pollInterval = 10 * time.Millisecond

// takeOwner acquires the lock of the process that manages the directory.
// It is not inherited, and so is free as soon as that process is gone.
func takeOwner(directory string) (*os.File, error) {
	path := filepath.Join(directory, "owner.lock")
	file, err := openLock(path)
	if err != nil {
		return nil, err
	}
	if err := flock(file, syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer file.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("pgembed: locking %s: %w", path, err)
		}
		holder := make([]byte, 32)
		n, _ := file.ReadAt(holder, 0) // empty where the other has just begun
		return nil, fmt.Errorf("pgembed: %s: %w by process %s; end it, or choose another data_directory",
			directory, ErrInUse, strings.TrimSpace(string(holder[:n])))
	}
	if err = file.Truncate(0); err == nil {
		_, err = file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("pgembed: writing %s: %w", path, err)
	}
	return file, nil
}

// takeServer takes the lock that the server's processes will inherit. As long
// as one of a previous server still lives, it waits for that, and asks it to
// end. The caller holds the owner lock, so no other process manages that server.
func takeServer(ctx context.Context, directory string) (*os.File, error) {
	path := filepath.Join(directory, "server.lock")
	file, err := openLock(path)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for requested := false; ; requested = true {
		err := flock(file, syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return file, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			file.Close()
			return nil, fmt.Errorf("pgembed: locking %s: %w", path, err)
		}
		cluster := filepath.Join(directory, "data")
		pid, _ := readPostmaster(cluster)
		if works, known := worksIn(pid, cluster); !requested && pid > 1 && (works || !known) {
			_ = syscall.Kill(pid, syscall.SIGINT) // gone already is as good
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			file.Close()
			return nil, fmt.Errorf("pgembed: the previous PostgreSQL of %s (process %d) has not ended yet: %w; wait, or end it", directory, pid, context.Cause(ctx))
		}
	}
}

func openLock(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("pgembed: opening the lock: %w", err)
	}
	return file, nil
}

func flock(file *os.File, how int) error {
	for {
		if err := syscall.Flock(int(file.Fd()), how); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// readPostmaster is the process id in a cluster's postmaster.pid; zero and no
// error where there is no such file.
func readPostmaster(cluster string) (int, error) {
	text, err := os.ReadFile(filepath.Join(cluster, "postmaster.pid"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("pgembed: %w", err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil {
		return 0, nil // half written by a server that died at once
	}
	return max(pid, 0), nil
}

// clearPostmaster deals with a postmaster.pid that is left when no server of
// ours lives. PostgreSQL itself replaces one whose process is gone; but a
// process id is soon taken again, in a container at once, and then it refuses
// to start. So a file that names another program is removed, and one that names a
// PostgreSQL that another process started on this cluster is an error.
func clearPostmaster(cluster string) error {
	pid, err := readPostmaster(cluster)
	if err != nil || pid == 0 {
		return err
	}
	if err := syscall.Kill(pid, 0); errors.Is(err, syscall.ESRCH) {
		return nil
	}
	switch works, known := worksIn(pid, cluster); {
	case !known:
		return nil // let PostgreSQL judge
	case works:
		return fmt.Errorf("pgembed: %s: %w by a PostgreSQL that sallyport did not start (process %d); stop it", cluster, ErrInUse, pid)
	}
	if err := os.Remove(filepath.Join(cluster, "postmaster.pid")); err != nil {
		return fmt.Errorf("pgembed: removing a stale postmaster.pid: %w", err)
	}
	return nil
}
