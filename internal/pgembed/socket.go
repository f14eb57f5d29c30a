package pgembed

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	// socketName is fixed by PostgreSQL for port 5432. There is no TCP port:
	// the number is only part of the name.
	socketName = ".s.PGSQL.5432"

	// longestSocket keeps below every system's limit for a socket's path: 107
	// bytes on Linux, 103 on macOS and the BSDs (unix(7), sun_path).
	longestSocket = 100

	// temporaryPrefix begins the name of a socket directory outside of ours.
	temporaryPrefix = "sallyport-socket-"

	// Superuser is the cluster's first role. Root and the server's user can
	// always log in as it.
	Superuser = "postgres"
)

// ErrNotRunning is returned, wrapped, by Locate.
var ErrNotRunning = errors.New("no PostgreSQL is running there")

// Endpoint is where a server is reached.
type Endpoint struct {
	directory string
}

// SocketDirectory is the absolute path of the directory with the unix socket,
// as libpq's PGHOST takes it.
func (e Endpoint) SocketDirectory() string { return e.directory }

// URL is a connection string for a database and a role, as pgx and libpq read
// it. It holds no secret.
func (e Endpoint) URL(database, user string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.User(user),
		Path:     "/" + database,
		RawQuery: url.Values{"host": {e.directory}, "port": {"5432"}}.Encode(),
	}
	return u.String()
}

// Locate returns the endpoint of the server that another process (or this one)
// runs in a directory, or an error that wraps ErrNotRunning. That the server
// accepts connections already is not promised.
func Locate(directory string) (Endpoint, error) {
	directory, err := filepath.Abs(directory)
	if err != nil {
		return Endpoint{}, fmt.Errorf("pgembed: %w", err)
	}
	lock, err := os.Open(filepath.Join(directory, "server.lock"))
	if errors.Is(err, fs.ErrNotExist) {
		return Endpoint{}, fmt.Errorf("pgembed: %s: %w", directory, ErrNotRunning)
	}
	if err != nil {
		return Endpoint{}, fmt.Errorf("pgembed: %w", err)
	}
	defer lock.Close()
	switch err := flock(lock, syscall.LOCK_SH|syscall.LOCK_NB); {
	case err == nil:
		return Endpoint{}, fmt.Errorf("pgembed: %s: %w", directory, ErrNotRunning)
	case !errors.Is(err, syscall.EWOULDBLOCK):
		return Endpoint{}, fmt.Errorf("pgembed: check %s: %w", lock.Name(), err)
	}
	return endpointOf(directory)
}

// endpointOf reads where the directory's socket is.
func endpointOf(directory string) (Endpoint, error) {
	entry := filepath.Join(directory, "socket")
	if target, err := os.Readlink(entry); err == nil {
		return Endpoint{target}, nil
	}
	if _, err := os.Stat(entry); err != nil {
		return Endpoint{}, fmt.Errorf("pgembed: %w", err)
	}
	return Endpoint{entry}, nil
}

// makeSocket prepares the socket's directory: in ours where the path is short
// and plain enough, else a new one in the temporary directory, which a symbolic
// link in ours names.
func makeSocket(directory string, as account) (Endpoint, error) {
	entry := filepath.Join(directory, "socket")
	if fits(entry) {
		return Endpoint{entry}, as.own(entry)
	}
	for _, parent := range []string{os.TempDir(), "/tmp"} {
		if !fits(filepath.Join(parent, temporaryPrefix+"0123456789")) {
			continue
		}
		made, err := os.MkdirTemp(parent, temporaryPrefix)
		if err != nil {
			return Endpoint{}, fmt.Errorf("pgembed: making a directory for the socket: %w", err)
		}
		if err = as.own(made); err == nil {
			err = os.Symlink(made, entry)
		}
		if err != nil {
			os.Remove(made)
			return Endpoint{}, fmt.Errorf("pgembed: making a directory for the socket: %w", err)
		}
		return Endpoint{made}, nil
	}
	return Endpoint{}, fmt.Errorf("pgembed: %s is too long a path for a socket, and so is $TMPDIR; choose a shorter one", entry)
}

// fits reports whether clients can use a socket in this directory: the
// path is short enough, and has none of the characters that a connection
// string gives a meaning (a comma separates hosts).
func fits(directory string) bool {
	plain := strings.IndexFunc(directory, func(r rune) bool {
		return !strings.ContainsRune("/._-+@=~", r) && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}) < 0
	return plain && filepath.IsAbs(directory) && len(directory)+1+len(socketName) <= longestSocket
}

// clearSocket removes what an earlier server left of its socket. In a
// directory outside of ours it removes only what a server makes there.
func clearSocket(directory string) error {
	entry := filepath.Join(directory, "socket")
	place := entry
	target, err := os.Readlink(entry)
	if err == nil {
		place = target
	}
	if place == entry || strings.HasPrefix(filepath.Base(place), temporaryPrefix) {
		for _, name := range []string{socketName, socketName + ".lock"} {
			if err := os.Remove(filepath.Join(place, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("pgembed: removing an old socket: %w", err)
			}
		}
	}
	if place != entry {
		_ = os.Remove(place) // not empty or not there: not ours any more
		if err := os.Remove(entry); err != nil {
			return fmt.Errorf("pgembed: removing an old socket: %w", err)
		}
	}
	return nil
}
