package secretfile

import (
	"io/fs"
	"syscall"
	"time"
)

// inode returns a file's change time and inode number. They differ after a replacement by a
// file with the same size and modification time.
func inode(info fs.FileInfo) (changed time.Time, number uint64) {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return time.Unix(s.Ctim.Unix()), s.Ino
	}
	return time.Time{}, 0
}
