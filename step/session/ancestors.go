package session

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// maxLinks bounds the symbolic links of a path, as the kernel does (path_resolution(7)).
const maxLinks = 40

// remedyParent is what to do about a directory that another user can change.
const remedyParent = "set " + Variable + " to a directory below one of your own"

// checkAncestors refuses a path if another user could replace a directory that contains
// it, and with it the session: its lock, its socket and its list of changed files. Each
// directory up to the root, symbolic links resolved, must belong to the process's user or
// to root, and other users must not be able to write in it, unless it has the sticky bit,
// as /tmp has. The error is [fs.ErrNotExist] if a directory is missing.
func checkAncestors(path string) error {
	dir, links := "/", 0
	for rest := strings.Split(filepath.Dir(path), "/"); ; {
		info, err := os.Lstat(dir)
		if err != nil {
			return fmt.Errorf("session: %w", err)
		}
		if err := checkAncestor(dir, path, info); err != nil {
			return err
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			target, err := os.Readlink(dir)
			if err != nil {
				return fmt.Errorf("session: %w", err)
			}
			if links++; links > maxLinks {
				return fmt.Errorf("session: the path %s has more than %d symbolic links: %s", path, maxLinks, remedyParent)
			}
			rest = append(strings.Split(target, "/"), rest...)
			if dir = filepath.Dir(dir); filepath.IsAbs(target) {
				dir = "/"
			}
		}
		for len(rest) > 0 && rest[0] == "" {
			rest = rest[1:]
		}
		if len(rest) == 0 {
			return nil
		}
		// dir has no symbolic link any more: ".." is its parent.
		dir, rest = filepath.Join(dir, rest[0]), rest[1:]
	}
}

// checkAncestor refuses one directory, or symbolic link, on the way to path.
func checkAncestor(dir, path string, info fs.FileInfo) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	// The owner of the root directory could replace every program, too.
	if !ok || dir != "/" && stat.Uid != 0 && int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("session: %s belongs to another user, who could replace %s: %s", dir, path, remedyParent)
	}
	switch mode := info.Mode(); {
	case mode&fs.ModeSymlink != 0:
	case !mode.IsDir():
		return fmt.Errorf("session: %s is not a directory: %s", dir, remedyParent)
	case mode.Perm()&0o022 != 0 && mode&fs.ModeSticky == 0:
		return fmt.Errorf("session: other users can write in %s (mode %04o) and replace %s: chmod go-w %s, or %s", dir, mode.Perm(), path, dir, remedyParent)
	}
	return nil
}
