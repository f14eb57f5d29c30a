package secretfile

import (
	"io/fs"
	"syscall"
	"time"
)

// inode returns a file's time of change and number, which a replacement with the same size
// and modification time does not have in common with the file before.
func inode(info fs.FileInfo) (changed time.Time, number uint64) {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return time.Unix(s.Ctim.Unix()), s.Ino
	}
	return time.Time{}, 0
}
