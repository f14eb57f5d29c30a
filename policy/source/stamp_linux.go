package source

import (
	"io/fs"
	"syscall"
	"time"
)

// changeOf is a file's device and number on it, and when anything about it was last
// changed: a time that, unlike that of its content, no user can set back.
func changeOf(info fs.FileInfo) (device, number uint64, changed time.Time, ok bool) {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, time.Time{}, false
	}
	return s.Dev, s.Ino, time.Unix(s.Ctim.Unix()), true
}
