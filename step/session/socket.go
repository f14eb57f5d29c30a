package session

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// maxSocketPath is the length of a path in sockaddr_un (unix(7)), without the final zero.
const maxSocketPath = 107

// socketAddress returns the path of the control socket in a form that a socket address
// has room for. A longer path is replaced by one through a descriptor of the directory
// (proc(5)), which done closes.
func (d Dir) socketAddress() (address string, done func(), err error) {
	path := filepath.Join(d.path, socketName)
	if len(path) <= maxSocketPath {
		return path, func() {}, nil
	}
	dir, err := os.Open(d.path)
	if err != nil {
		return "", nil, fmt.Errorf("session: %w", err)
	}
	address = "/proc/self/fd/" + strconv.Itoa(int(dir.Fd())) + "/" + socketName
	return address, func() { _ = dir.Close() }, nil
}
